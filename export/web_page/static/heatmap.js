// A label's heat-map over its photo: warm where the label looks, the bare photo where it does not.

const STEPS = 192; // pixels of the longer side that colours are computed at; the browser smooths between them

/** Draws a photo, and over it the map `values` (bytes, `[height, width]`) where there is one. */
export function drawPhoto(canvas, picture, map) {
  const context = canvas.getContext("2d");
  context.clearRect(0, 0, canvas.width, canvas.height);
  context.drawImage(picture, 0, 0, canvas.width, canvas.height);
  if (!map) return;
  context.imageSmoothingQuality = "high";
  context.drawImage(coloured(map, canvas.width, canvas.height), 0, 0, canvas.width, canvas.height);
}

function coloured({ values, height, width }, photoWidth, photoHeight) {
  const scale = Math.min(1, STEPS / Math.max(photoWidth, photoHeight));
  const layer = new OffscreenCanvas(Math.max(1, Math.round(photoWidth * scale)), Math.max(1, Math.round(photoHeight * scale)));
  const image = new ImageData(layer.width, layer.height);
  const [rows, columns] = [placesOf(height, layer.height), placesOf(width, layer.width)];
  for (let y = 0, to = 0; y < layer.height; y++) {
    for (let x = 0; x < layer.width; x++, to += 4) {
      const [top, bottom, down] = rows[y];
      const [left, right, across] = columns[x];
      const at = (row, column) => values[row * width + column];
      const upper = at(top, left) + across * (at(top, right) - at(top, left));
      const lower = at(bottom, left) + across * (at(bottom, right) - at(bottom, left));
      const value = upper + down * (lower - upper);
      image.data.set(COLOURS[Math.round(value)], to);
      image.data[to + 3] = BUILD.opacity * value;
    }
  }
  layer.getContext("2d").putImageData(image, 0, 0);
  return layer;
}

/** Bilinear: for each place of the larger side the two neighbours of the smaller one, and how near the second is. */
function placesOf(size, larger) {
  return Array.from({ length: larger }, (_, place) => {
    const at = Math.min(size - 1, Math.max(0, ((place + 0.5) * size) / larger - 0.5));
    const first = Math.floor(at);
    return [first, Math.min(size - 1, first + 1), at - first];
  });
}

const COLOURS = Array.from({ length: 256 }, (_, index) => [0, 2, 4].map((place) => parseInt(BUILD.colours.substr(6 * index + place, 2), 16)));

/** Row and column, each 0 to 2, of where a map is brightest, for words. */
export function brightestPlace({ values, height, width }) {
  const best = values.indexOf(Math.max(...values));
  return [Math.floor((3 * (Math.floor(best / width) + 0.5)) / height), Math.floor((3 * ((best % width) + 0.5)) / width)];
}
