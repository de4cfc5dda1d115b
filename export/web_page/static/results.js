// What was found, as JSON and CSV: fields and columns as export.ondevice prints them.

const DECIMALS = 6;

/** Label numbers, best first; of equal scores the earlier label. */
export function bestFirst(scores) {
  return Array.from(scores.keys()).sort((a, b) => scores[b] - scores[a] || a - b);
}

export function isPresent(score, label, thresholds) {
  return score >= thresholds[label];
}

const rounded = (score) => Number(score.toFixed(DECIMALS));

/** `photos` are {name, scores, times}, in the order of the page. */
export function asJson(photos, labels, thresholds) {
  const answers = photos.map(({ name, scores, times }) => {
    const order = bestFirst(scores);
    return {
      photo: name,
      labels: order.map((label) => labels[label]),
      scores: order.map((label) => rounded(scores[label])),
      present: order.filter((label) => isPresent(scores[label], label, thresholds)).map((label) => labels[label]),
      milliseconds: Object.fromEntries(Object.entries(times).map(([stage, value]) => [stage, Number(value.toFixed(2))])),
    };
  });
  return `${JSON.stringify(answers, null, 2)}\n`;
}

/** A line a photo: its name, the present labels separated by `|`, and the score of each label. */
export function asCsv(photos, labels, thresholds) {
  const rows = photos.map(({ name, scores }) => {
    const present = bestFirst(scores).filter((label) => isPresent(scores[label], label, thresholds));
    return [cell(name), cell(present.map((label) => labels[label].replaceAll("|", "\\|")).join("|")), ...Array.from(scores, rounded)];
  });
  return [["photo", "present", ...labels].map(cell), ...rows].map((row) => `${row.join(",")}\n`).join("");
}

/** Other people's text as a cell that no spreadsheet obeys (OWASP, "CSV injection"): control characters as escapes. */
function cell(text) {
  const shown = text.replace(/(?! )[\p{C}\p{Z}]/gu, escaped);
  const safe = /^\s*[=+\-@＝＋－＠]/.test(shown) ? `'${shown}` : shown;
  return /[",\n\r]/.test(safe) ? `"${safe.replaceAll('"', '""')}"` : safe;
}

/** A character as Python writes it: \t, \x1b, \u200e, \U000e0001. */
function escaped(character) {
  const short = { "\t": "\\t", "\n": "\\n", "\r": "\\r" }[character];
  const code = character.codePointAt(0);
  const [letter, digits] = code < 0x100 ? ["x", 2] : code < 0x10000 ? ["u", 4] : ["U", 8];
  return short ?? `\\${letter}${code.toString(16).padStart(digits, "0")}`;
}

/** Hands a text to the person as a file. */
export function save(name, text, type) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([text], { type }));
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
}
