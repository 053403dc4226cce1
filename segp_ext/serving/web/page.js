"use strict";
// Texts of the server are only ever set as text, never as HTML.
const by = (id) => document.getElementById(id);
const AT_ONCE = 6;
let health = null, learner = null, chosen = [], following = null;

function make(tag, text, kind) {
  const element = document.createElement(tag);
  if (text !== undefined) element.textContent = text;
  if (kind) element.className = kind;
  return element;
}

async function ask(path, options) {
  let response;
  try {
    response = await fetch(path, options);
  } catch {
    throw new Error("the server does not answer");
  }
  let found;
  try {
    found = await response.json();
  } catch {
    throw new Error("the server failed (" + response.status + ")");
  }
  if (!response.ok) {
    const error = new Error(found.error || response.statusText);
    error.status = response.status;
    throw error;
  }
  return found;
}

const pause = (seconds) => new Promise((done) => setTimeout(done, 1000 * seconds));

// -- naming ---------------------------------------------------------------------------------------------------------------------

const waiting = [];
let running = 0;

function name(files) {
  for (const file of files) {
    const card = make("li", undefined, "card");
    const image = make("img");
    image.alt = "";
    image.src = URL.createObjectURL(file);
    image.onload = () => URL.revokeObjectURL(image.src);
    image.onerror = () => { URL.revokeObjectURL(image.src); image.hidden = true; };
    const side = make("div");
    side.append(make("p", file.name, "file"), make("p", "…", "note"));
    card.append(image, side);
    by("answers").prepend(card);
    waiting.push([file, card, side]);
  }
  while (running < AT_ONCE && waiting.length) nameNext();
}

async function nameNext() {
  running += 1;
  const [file, card, side] = waiting.shift();
  try {
    show(card, side, await predicted(file));
  } catch (error) {
    side.lastChild.replaceWith(make("p", error.message, "error"));
  }
  running -= 1;
  if (waiting.length) nameNext();
}

async function predicted(file) {
  for (let tries = 0; ; tries += 1) {
    const form = new FormData();
    form.append("images", file);
    try {
      return (await ask("predict?topk=5", { method: "POST", body: form })).images[0];
    } catch (error) {
      if (error.status !== 503 || tries === 5) throw error;
      await pause(1 + tries);
    }
  }
}

function show(card, side, answer) {
  const bars = make("ol", undefined, "bars");
  for (const { name, score } of answer.names) {
    const row = make("li"), bar = make("i");
    bar.style.width = 100 * score + "%";
    row.append(bar, make("span", name), make("b", (100 * score).toFixed(1) + " %"));
    bars.append(row);
  }
  side.lastChild.replaceWith(bars);
  if (answer.unknown) {
    card.classList.add("none");
    bars.before(make("p", "none of these", "verdict"));
  }
}

function takeDrops(zone, taken) {
  zone.addEventListener("dragover", (event) => { event.preventDefault(); zone.classList.add("over"); });
  zone.addEventListener("dragleave", () => zone.classList.remove("over"));
  zone.addEventListener("drop", (event) => {
    event.preventDefault();
    zone.classList.remove("over");
    taken([...event.dataTransfer.files]);
  });
  const input = zone.querySelector("input");
  input.addEventListener("change", () => { taken([...input.files]); input.value = ""; });
}

takeDrops(by("drop"), name);
document.addEventListener("paste", (event) => name([...event.clipboardData.files]));
for (const kind of ["dragover", "drop"]) document.addEventListener(kind, (event) => event.preventDefault());

// -- classes --------------------------------------------------------------------------------------------------------------------

function showClasses(found) {
  learner = found.learner;
  by("classes").replaceChildren(...found.classes.map((each) => {
    const row = make("tr"), cell = make("td"), button = make("button", "Rename", "quiet");
    button.setAttribute("aria-label", "Rename " + each.name);
    button.onclick = () => beginRename(row, each);
    cell.append(button);
    row.append(make("td", each.name, "name"), make("td", each.task, "number"), make("td", each.images ?? "–", "number"),
      make("td", each.learnt ? each.learnt.slice(0, 10) : "–", "date"), cell);
    return row;
  }));
}

function beginRename(row, each) {
  const form = make("form"), input = make("input"), save = make("button", "Save"), back = make("button", "Back", "quiet");
  input.value = each.name;
  input.maxLength = 100;
  input.setAttribute("aria-label", "New name of " + each.name);
  back.type = "button";
  back.onclick = refresh;
  form.append(input, save, back);
  form.onsubmit = async (event) => {
    event.preventDefault();
    save.disabled = true;
    try {
      const body = JSON.stringify({ old: each.name, new: input.value });
      showClasses(await ask("classes/rename", { method: "POST", body, headers: { "Content-Type": "application/json" } }));
      look();
    } catch (error) {
      save.disabled = false;
      form.querySelector(".error")?.remove();
      form.append(make("p", error.message, "error"));
    }
  };
  const cell = make("td");
  cell.colSpan = 5;
  cell.append(form);
  row.replaceChildren(cell);
  input.focus();
  input.select();
}

async function refresh() {
  showClasses(await ask("classes"));
}

// -- learning -------------------------------------------------------------------------------------------------------------------

takeDrops(by("drop-class"), (files) => {
  chosen = files;
  by("chosen").textContent = files.length === 1 ? "1 picture" : files.length + " pictures";
});

by("add").onsubmit = async (event) => {
  event.preventDefault();
  if (!chosen.length) return said("Choose pictures of the class first.", true);
  const form = new FormData();
  form.append("name", by("new-name").value);
  for (const file of chosen) form.append("images", file);
  by("learn").disabled = true;
  try {
    said("sending " + chosen.length + " pictures …");
    const job = await ask("classes", { method: "POST", body: form });
    chosen = [];
    by("chosen").textContent = "Drop pictures of this class, or choose them";
    by("add").reset();
    follow(job);
  } catch (error) {
    said(error.message, true);
    by("learn").disabled = false;
  }
};

by("cancel").onclick = async () => {
  by("cancel").disabled = true;
  try {
    await ask("job", { method: "DELETE" });
  } catch (error) {
    said(error.message, true);
  }
};

function said(text, bad) {
  by("job").hidden = false;
  by("job-bar").hidden = by("cancel").hidden = true;
  by("job-text").textContent = text;
  by("job-text").className = bad ? "error" : "";
}

async function follow(job) {
  if (following) return;
  following = job;
  by("cancel").disabled = false;
  by("learn").disabled = true;
  while (job.state === "learning") {
    said("Learning “" + job.name + "” from " + job.images + " pictures: " + (job.stage || "starting"));
    by("job-bar").hidden = by("cancel").hidden = false;
    by("job-bar").value = job.percent;
    await pause(0.5);
    try {
      job = await ask("job");
    } catch (error) {
      said(error.message, true);
      await pause(2);
    }
  }
  following = null;
  by("learn").disabled = false;
  if (job.state === "learnt") said("“" + job.name + "” is learnt. " + job.message);
  else if (job.state === "cancelled") said("“" + job.name + "” was not learnt: cancelled.");
  else said("“" + job.name + "” was not learnt: " + job.message, true);
  look();
}

// -- the server's state ---------------------------------------------------------------------------------------------------------

async function look() {
  try {
    health = await ask("health");
    document.title = by("name").textContent = health.name;
    const verdict = health.unknown_rate === null ? "" : "; it says when a picture shows none of them";
    by("about").textContent = health.classes + " classes" + verdict;
    by("trouble").hidden = health.trouble === null;
    by("trouble").textContent = health.trouble === null ? "" : "The learner on disk has changed but cannot be used: " + health.trouble;
    by("report").hidden = !health.report;
    const renames = by("classes").querySelector("form");
    if (health.learner !== learner && !renames) await refresh();
    if (health.job === "learning" && !following) follow(await ask("job"));
  } catch (error) {
    by("about").textContent = error.message;
  }
}

(async () => {
  for (;;) {
    if (!document.hidden) await look();
    await pause(2);
  }
})();
