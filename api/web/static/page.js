// Sends the picture to POST /query and lists the matches. All text goes in as text, never as HTML.
const byId = (id) => document.getElementById(id);
const LIKELY = 60; // scores of copies are above this, those of strangers far below
const LIMIT = 20;
let link = "";
let latest = 0; // only the answer to the latest picture is shown

function say(text, isError = false) {
  byId("message").textContent = text;
  byId("message").classList.toggle("error", isError);
}

async function showCount() {
  const answer = await fetch("status");
  const body = await answer.json();
  byId("count").textContent = answer.ok ? `${body.images.toLocaleString()} images known` : body.message;
}

function row(match) {
  const line = document.createElement("tr");
  line.classList.toggle("likely", match.score >= LIKELY);
  const bar = document.createElement("div");
  bar.className = "bar";
  const meter = document.createElement("meter");
  Object.assign(meter, { min: 0, max: 100, value: Math.max(0, match.score) });
  const score = document.createElement("span");
  score.textContent = `${match.score.toFixed(1)} %`;
  bar.append(meter, score);
  const name = document.createElement(link ? "a" : "span");
  name.textContent = `#${match.post_id}`;
  if (link) name.href = link.replace("{id}", match.post_id);
  for (const content of [bar, name]) line.insertCell().append(content);
  return line;
}

function show(matches) {
  byId("matches").tBodies[0].replaceChildren(...matches.map(row));
  byId("matches").hidden = matches.length === 0;
  const likely = matches.filter((match) => match.score >= LIKELY).length;
  if (matches.length === 0) say("No images are known yet.");
  else if (likely === 0) say("No copy found. The most alike:");
  else say(`${likely} likely ${likely === 1 ? "copy" : "copies"} found.`);
}

async function search(file) {
  const turn = ++latest;
  URL.revokeObjectURL(byId("preview").src);
  byId("preview").src = URL.createObjectURL(file);
  byId("preview").hidden = false;
  byId("matches").hidden = true;
  say("Searching …");
  const form = new FormData();
  form.append("file", file, file.name || "pasted");
  try {
    const answer = await fetch(`query?limit=${LIMIT}`, { method: "POST", body: form });
    const body = await answer.text().then(parsePrecisely);
    if (turn !== latest) return;
    if (answer.ok) show(body);
    else say(`This did not work: ${body.message}`, true);
  } catch (error) {
    if (turn === latest) say(`The server could not be reached (${error.message}).`, true);
  }
}

// Ids run to 2^63-1, beyond what a JavaScript number holds: keep them as text.
function parsePrecisely(text) {
  return JSON.parse(text.replace(/"post_id":(\d+)/g, '"post_id":"$1"'));
}

function first(list) {
  return [...list].find((file) => file.type.startsWith("image/")) ?? list[0];
}

byId("file").addEventListener("change", (event) => {
  if (event.target.files.length) search(first(event.target.files));
});
for (const name of ["dragenter", "dragover"]) {
  document.addEventListener(name, (event) => {
    event.preventDefault();
    byId("drop").classList.add("over");
  });
}
for (const name of ["dragleave", "drop"]) {
  document.addEventListener(name, () => byId("drop").classList.remove("over"));
}
document.addEventListener("drop", (event) => {
  event.preventDefault();
  if (event.dataTransfer.files.length) search(first(event.dataTransfer.files));
  else say("Drop a picture file, not a link.", true);
});
document.addEventListener("paste", (event) => {
  if (event.clipboardData.files.length) search(first(event.clipboardData.files));
});

link = (await (await fetch("static/page.json")).json()).link;
await showCount();
