// The service worker: it keeps the page for times without a network, and isolates it, which threads need.

const START_MILLISECONDS = 4000;

/**
 * Has a service worker take this page, where the browser lets it. The first time it takes the page over by loading it again, before anything
 * large was asked for; `isIdle` says whether that may be done later too, when a new version of the page is there.
 */
export async function keepForOffline(isIdle) {
  const { serviceWorker } = navigator;
  if (!serviceWorker) return;
  serviceWorker.addEventListener("controllerchange", () => isIdle() && location.reload());
  try {
    const isNew = !(await serviceWorker.getRegistration());
    await serviceWorker.register("service_worker.js", { updateViaCache: "none" });
    if (isNew) await new Promise((resolve) => setTimeout(resolve, START_MILLISECONDS)); // ended by loading anew
  } catch {
    // Not allowed here: a private window, a frame. The page works without.
  }
}

/** Whether a file of the page is there without a network. What was just loaded may still be on its way to the disk. */
export async function isKept(path) {
  if (!navigator.serviceWorker?.controller) return false;
  for (let tries = 0; tries < 10; tries++) {
    if (await caches.match(new URL(path, location.href).href)) return true;
    await new Promise((resolve) => setTimeout(resolve, 200));
  }
  return false;
}
