// Puts the page together: a question comes in, an answer goes out, and only the latest one counts.
import { ask, getJson } from "./ask.js";
import { watchInputs } from "./inputs.js";
import { ownAddress } from "./pictures.js";
import { createQueryPicture } from "./query_picture.js";
import { createResults } from "./results.js";
import { createSketch } from "./sketch.js";
import { createTabs } from "./tabs.js";
import { token } from "./token.js";

const byId = (id) => document.getElementById(id);
const config = await getJson("static/page.json");
const picture = createQueryPicture();
const results = createResults(config, picture.point);
let current = null; // {question, abort} of the latest search
const questions = new Map(); // the latest one of each tab
const tabOf = (question) => (question.sketch ? "tab-sketch" : "tab-picture");

async function search(question) {
  questions.set(tabOf(question), question);
  current?.abort.abort();
  const search = { question, abort: new AbortController() };
  current = search;
  results.clear();
  showQuestion(question);
  await tryToAnswer(search);
}

async function tryToAnswer(search) {
  const { question } = search;
  const isCurrent = () => current === search;
  results.say("Searching …", { isBusy: true });
  const onProgress = (share) => {
    if (isCurrent() && share < 1) results.say("Sending the picture …", { isBusy: true, share });
    else if (isCurrent()) results.say("Searching …", { isBusy: true });
  };
  try {
    const options = { signal: search.abort.signal, onProgress, maxBytes: config.max_bytes, canFetch: config.fetch };
    const answer = await ask(question, options);
    if (!isCurrent()) return;
    picture.rest(results.show(answer, Boolean(question.sketch)));
    showCount();
  } catch (trouble) {
    if (isCurrent()) explain(trouble, search);
  }
}

function explain(trouble, search) {
  const { message, more, retryS, share, wants } = trouble;
  const isWaiting = retryS !== undefined;
  results.say(message, { more, isError: !isWaiting, share, isBusy: isWaiting, wants, canRetry: wants === "line" });
  const again = () => current === search && tryToAnswer(search);
  if (isWaiting) setTimeout(again, retryS * 1000);
  if (wants === "line") addEventListener("online", again, { once: true });
  if (wants === "token") byId("token").focus();
}

async function showQuestion({ file, id, hash, url }) {
  if (file) picture.show(URL.createObjectURL(file), file.name || "pasted");
  else if (id) picture.show(await ownAddress(`images/${id}/preview.png`), `#${id}`);
  else if (hash) picture.show(await ownAddress(`preview.png?hash=${hash}`), "what the hash keeps");
  else if (url) picture.hide();
}

async function showCount() {
  try {
    const { images } = await getJson("status");
    byId("count").textContent = images === 1 ? "1 picture known" : `${images.toLocaleString("en")} pictures known`;
  } catch (trouble) {
    byId("count").textContent = trouble.message;
    if (trouble.retryS !== undefined) setTimeout(showCount, trouble.retryS * 1000);
  }
}

function stop() {
  current?.abort.abort();
  current = null;
  results.hide();
}

watchInputs(search, (sentence) => {
  stop();
  picture.hide();
  results.say(sentence, { isError: true });
});
createTabs(document.querySelector("[role=tablist]"), (tab) => {
  // Nothing may move under the brush when the first results appear.
  if (tab === "tab-sketch") byId("main").classList.add("asked");
  if (current && tabOf(current.question) === tab) return;
  if (questions.has(tab)) search(questions.get(tab));
  else stop();
});
createSketch((blob) => search({ sketch: blob }));
byId("again").addEventListener("click", () => current && tryToAnswer(current));
byId("token-form").addEventListener("submit", (event) => {
  event.preventDefault();
  token.value = byId("token").value;
  byId("token").value = "";
  showCount();
  if (current) search(current.question);
});
await showCount();
