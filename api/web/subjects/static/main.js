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
const RETRY_S = 3;
const config = await getConfig();
const picture = createQueryPicture();
const results = createResults(config, picture.point);
let current = null; // {question, abort} of the latest search
const questions = new Map(); // the latest one of each tab
const tabOf = (question) => (question.sketch ? "tab-sketch" : "tab-picture");

async function search(question) {
  questions.set(tabOf(question), question);
  showTab(tabOf(question));
  if (question.file) byId("text").value = ""; // it is of an older question
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
  // Nothing may move under the brush of who is still painting.
  const reveal = () => (question.sketch && !question.isAsked) || results.reveal();
  results.say("Searching …", { isBusy: true });
  reveal();
  const onProgress = (share) => {
    if (isCurrent() && share < 1) results.say("Sending the picture …", { isBusy: true, share });
    else if (isCurrent()) results.say("Searching …", { isBusy: true });
  };
  try {
    const options = { signal: search.abort.signal, onProgress, maxBytes: config.max_bytes, canFetch: config.fetch };
    const answer = await ask(question, options);
    if (!isCurrent()) return;
    picture.rest(results.show(answer, question));
    showCount();
  } catch (trouble) {
    if (!isCurrent()) return;
    explain(trouble, search);
  }
  reveal();
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
    if (trouble.wants === "token" && !current) results.say(trouble.message, trouble);
    if (trouble.retryS !== undefined) setTimeout(showCount, trouble.retryS * 1000);
  }
}

// What the page must know of its server, however long that takes.
async function getConfig() {
  for (;;) {
    try {
      const config = await getJson("static/page.json");
      byId("count").textContent = "";
      return config;
    } catch (trouble) {
      byId("count").textContent = trouble.message;
      await new Promise((resolve) => setTimeout(resolve, (trouble.retryS ?? RETRY_S) * 1000));
    }
  }
}

function stop() {
  current?.abort.abort();
  current = null;
  results.hide();
}

function refuse(sentence) {
  stop();
  picture.hide();
  results.say(sentence, { isError: true });
  results.reveal();
}

watchInputs(config.fetch, {
  onQuestion: search,
  onTrouble: refuse,
  onNothing: (sentence) => (questions.has("tab-picture") ? search(questions.get("tab-picture")) : refuse(sentence)),
});
const showTab = createTabs(document.querySelector("[role=tablist]"), (tab) => {
  // Nothing may move under the brush when the first results appear.
  if (tab === "tab-sketch") byId("main").classList.add("asked");
  if (current && tabOf(current.question) === tab) return;
  if (questions.has(tab)) search(questions.get(tab));
  else stop();
});
createSketch({
  onSketch: (blob, isAsked) => search({ sketch: blob, isAsked }),
  onEmpty: (isAsked) => {
    questions.delete("tab-sketch");
    stop();
    if (isAsked) results.say("Paint something first.", { isError: true });
  },
});
byId("again").addEventListener("click", () => current && tryToAnswer(current));
byId("token-form").addEventListener("submit", (event) => {
  event.preventDefault();
  token.value = byId("token").value;
  byId("token").value = "";
  if (!current) results.hide();
  showCount();
  if (current) search(current.question);
});
await showCount();
