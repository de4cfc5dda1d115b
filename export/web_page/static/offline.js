// The service worker: it keeps the page for times without a network, and isolates it, which threads need.

const START_MILLISECONDS = 4000;

/**
 * Whether a service worker has this page. The first time it takes the page over by loading it again, before anything
 * large was asked for; `isIdle` says whether that may be done later too, when a new version of the page is there.
 */
export async function keepForOffline(isIdle) {
  const { serviceWorker } = navigator;
  if (!serviceWorker) return false;
  serviceWorker.addEventListener("controllerchange", () => isIdle() && location.reload());
  try {
    const isNew = !(await serviceWorker.getRegistration());
    await serviceWorker.register("service_worker.js", { updateViaCache: "none" });
    if (isNew) await new Promise((resolve) => setTimeout(resolve, START_MILLISECONDS)); // ended by loading anew
  } catch {
    return false; // not allowed here: a private window, a frame
  }
  return Boolean(serviceWorker.controller);
}
