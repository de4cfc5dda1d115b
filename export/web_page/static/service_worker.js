// Keeps the page for times without a network, and adds the headers that a static host does not send: those that isolate
// the page from others, without which a browser gives no threads, and the page's policy, for its workers too.

"use strict";
importScripts("build.js");

const NAME = `page ${self.registration.scope} `;
const CACHE = NAME + BUILD.version;
const HEADERS = {
  "Content-Security-Policy":
    "default-src 'none'; script-src 'self' 'wasm-unsafe-eval'; style-src 'self'; img-src 'self' blob:; connect-src 'self'; worker-src 'self'; base-uri 'none'; form-action 'none'",
  "Cross-Origin-Embedder-Policy": "require-corp",
  "Cross-Origin-Opener-Policy": "same-origin",
};

self.addEventListener("install", () => self.skipWaiting());

self.addEventListener("activate", (event) => event.waitUntil(takeOver()));

self.addEventListener("fetch", (event) => {
  const { method, url } = event.request;
  if (method === "GET" && url.startsWith(self.registration.scope)) event.respondWith(answer(event, url.replace(/[?#].*$/, "")));
});

async function takeOver() {
  const names = await caches.keys();
  await Promise.all(names.filter((name) => name.startsWith(NAME) && name !== CACHE).map((name) => caches.delete(name)));
  await self.clients.claim();
}

/** A file from the cache of this version; the first time from the host, past any cache in between. */
async function answer(event, url) {
  const cache = await caches.open(CACHE);
  let response = await cache.match(url);
  if (!response) {
    response = await fetch(url, { cache: "no-cache" });
    if (response.ok) event.waitUntil(cache.put(url, response.clone()).catch(() => {})); // a full disk keeps nothing
  }
  const headers = new Headers(response.headers);
  for (const [name, value] of Object.entries(HEADERS)) headers.set(name, value);
  return new Response(response.body, { status: response.status, statusText: response.statusText, headers });
}
