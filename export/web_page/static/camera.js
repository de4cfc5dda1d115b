// Photos by the device's camera.

import { strings } from "./strings.js";

const byId = (id) => document.getElementById(id);
let count = 0;

/** Opens the camera; `onPhoto(file)` for each that is taken, `onFault(sentence)` where there is none. */
export async function openCamera(onPhoto, onFault) {
  const [dialog, video] = [byId("camera-dialog"), byId("camera-video")];
  let stream;
  try {
    stream = await navigator.mediaDevices.getUserMedia({ video: { facingMode: "environment", width: { ideal: 1920 } } });
  } catch (error) {
    return onFault(strings.noCamera(error.name === "TypeError" ? "it needs https" : error.name));
  }
  video.srcObject = stream;
  dialog.onclose = () => {
    stream.getTracks().forEach((track) => track.stop());
    video.srcObject = null;
  };
  byId("camera-close").onclick = () => dialog.close();
  byId("camera-take").onclick = async () => {
    if (!video.videoWidth) return; // no picture yet
    const canvas = new OffscreenCanvas(video.videoWidth, video.videoHeight);
    canvas.getContext("2d").drawImage(video, 0, 0);
    const name = strings.cameraName(++count);
    dialog.close();
    onPhoto(new File([await canvas.convertToBlob()], name, { type: "image/png" }));
  };
  return dialog.showModal();
}
