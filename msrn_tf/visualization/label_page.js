"use strict";
(() => {
  const element = (id) => document.getElementById(id);
  const { name, photos, questions, decided } = JSON.parse(element("data").textContent);
  const key = `msrn_tf.check_labels ${element("data").dataset.key}`;
  const decisions = kept();
  let at = Math.max(0, questions.findIndex((_, number) => !decisions[number]));
  let last;  // the question decided just now, which undo goes back to
  let unsaved = false;

  // Some browsers keep nothing for files: then what is decided lasts until the page is closed.
  function kept() {
    const found = {};
    try {
      for (const [number, state] of Object.entries(JSON.parse(localStorage.getItem(key)) || {})) {
        if (questions[number] && ["present", "absent", "unknown"].includes(state)) found[number] = state;
      }
    } catch { /* as if nothing had been decided */ }
    return found;
  }

  function keep() {
    try {
      localStorage.setItem(key, JSON.stringify(decisions));
    } catch {
      unsaved = true;
    }
  }

  function show() {
    const question = questions[at];
    const count = Object.keys(decisions).length;
    element("title").textContent = `Labels of ${name}`;
    element("progress").textContent = questions.length
      ? `question ${at + 1} of ${questions.length}, ${count} decided`
        + (decided.length ? `, ${decided.length} decided before` : "")
      : "nothing is suspected";
    element("bar").max = Math.max(1, questions.length);
    element("bar").value = count;
    for (const button of document.querySelectorAll("button")) button.disabled = !question;
    if (!question) return;
    element("photo").src = photos[question.image];
    element("photo").alt = `photo ${question.photo}`;
    element("name").textContent = question.photo;
    element("label").textContent = question.shown;
    for (const part of ["annotated", "score", "suggestion"]) element(part).textContent = question[part];
    element("decision").textContent = decisions[at] || "not yet";
    for (const button of document.querySelectorAll("button[data-state]")) {
      button.setAttribute("aria-pressed", String(Boolean(button.dataset.state) && button.dataset.state === decisions[at]));
    }
  }

  function move(step) {
    last = undefined;
    at = Math.min(Math.max(at + step, 0), questions.length - 1);
    show();
  }

  function decide(state) {
    if (!state && last !== undefined) at = last;
    const { photo, shown } = questions[at];
    const here = at;
    if (state) decisions[at] = state;
    else delete decisions[at];
    keep();
    element("status").textContent = state ? `${shown} in ${photo}: ${state}` : `${shown} in ${photo}: not decided`;
    move(state ? 1 : 0);
    if (state) last = here;
  }

  function goToOpen() {
    const open = questions.map((_, number) => (at + 1 + number) % questions.length).find((number) => !decisions[number]);
    if (open === undefined) element("status").textContent = "all are decided";
    else move(open - at);
  }

  const field = (text) => (/[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text);

  function save() {
    const rows = [["photo", "label", "annotated", "decision"], ...decided];
    questions.forEach(({ photo, label, annotated }, number) => {
      if (decisions[number]) rows.push([photo, label, annotated, decisions[number]]);
    });
    const text = rows.map((row) => row.map(field).join(",") + "\n").join("");
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([text], { type: "text/csv" }));
    link.download = "corrections.csv";
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 60000);
    unsaved = false;
    element("status").textContent = `saved ${rows.length - 1} decisions`;
  }

  const keys = {
    p: () => decide("present"),
    a: () => decide("absent"),
    u: () => decide("unknown"),
    backspace: () => decide(""),
    arrowleft: () => move(-1),
    arrowright: () => move(1),
    n: goToOpen,
    s: save,
  };
  document.addEventListener("keydown", (event) => {
    const action = keys[event.key.toLowerCase()];
    if (!action || !questions.length || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    action();
  });
  for (const button of document.querySelectorAll("button[data-state]")) {
    button.addEventListener("click", () => decide(button.dataset.state));
  }
  element("previous").addEventListener("click", () => move(-1));
  element("next").addEventListener("click", () => move(1));
  element("open").addEventListener("click", goToOpen);
  element("save").addEventListener("click", save);
  window.addEventListener("beforeunload", (event) => {
    if (unsaved) event.preventDefault();
  });
  show();
})();
