// Puts the page together: a question comes in, an answer goes out, and only the latest one counts.
import { note, noteRefused, recalled } from "./address.js";
import { ask, getJson } from "./ask.js";
import { watchInputs } from "./inputs.js";
import { picturesOf } from "./pictures.js";
import { createQueryPicture } from "./query_picture.js";
import { createResults } from "./results.js";
import { createSketch } from "./sketch.js";
import { createTabs } from "./tabs.js";
import { token } from "./token.js";
import { asTrouble, foreign } from "./trouble.js";
import { HOW_TO_ADD, asideOf } from "./words.js";

const byId = (id) => document.getElementById(id);
const RETRY_S = 3;
const picture = createQueryPicture();
const results = createResults(picture.point);
let current = null; // {question, abort} of the latest search
const questions = new Map(); // the latest one of each tab
let nextCount; // the timer of the next time that the server is asked how many pictures it knows
const tabOf = (question) => (question.sketch ? "tab-sketch" : "tab-picture");
const configured = getConfig(); // what visitors bring until then waits for it

async function search(question) {
  questions.set(tabOf(question), question);
  showTab(tabOf(question));
  if (question.file) byId("text").value = ""; // it is of an older question
  if (!question.sketch) note(question);
  current?.abort.abort();
  const search = { question, abort: new AbortController() };
  current = search;
  results.clear();
  showQuestion(search);
  await tryToAnswer(search);
}

// isSaid: the page has said that it tries once more by itself.
async function tryToAnswer(search, isSaid = false) {
  const { question } = search;
  const isCurrent = () => current === search;
  // Nothing may move under the brush of a visitor who is still painting.
  const reveal = () => (question.sketch && !question.isAsked) || results.reveal();
  const saySearching = () => isSaid || results.say("Searching …", { isBusy: true });
  saySearching();
  reveal();
  const onProgress = (share) => {
    if (!isCurrent()) return;
    if (share === 1) return saySearching();
    isSaid = false;
    results.say("Sending the picture …", { isBusy: true, share });
  };
  const config = await configured;
  if (!isCurrent()) return;
  try {
    const options = { signal: search.abort.signal, onProgress, maxBytes: config.max_bytes, canFetch: config.fetch };
    const answer = await ask(question, options);
    if (!isCurrent()) return;
    picture.rest(results.show(answer, question, config));
    showCount();
  } catch (error) {
    if (!isCurrent()) return;
    explain(asTrouble(error), search);
  }
  reveal();
}

function explain(trouble, search) {
  const { message, more, retryS, share, wants } = trouble;
  const isWaiting = retryS !== undefined;
  const details = [more, isWaiting ? "" : asideOf(search.question)].filter(Boolean).join(" ");
  results.say(message, { more: details, isError: !isWaiting, share, isBusy: isWaiting, wants, canRetry: wants === "line" });
  const again = (isSaid) => current === search && tryToAnswer(search, isSaid);
  if (isWaiting) setTimeout(again, retryS * 1000, true);
  if (wants === "line") addEventListener("online", () => again(false), { once: true });
  if (wants === "token") byId("token").focus();
}

async function showQuestion(search) {
  const { file, id, hash, sketch } = search.question;
  if (sketch) return;
  picture.hide(); // it is of an older question
  if (file) picture.showFile(file);
  const config = id && (await configured);
  if (current !== search) return;
  if (id) picture.showKnown(picturesOf(id, config), `#${id}`);
  const soft = { address: `preview.png?hash=${hash}`, isOurs: true, isSoft: true };
  if (hash) picture.showKnown([soft], "what the hash keeps");
}

async function showCount() {
  clearTimeout(nextCount);
  try {
    const { images } = await getJson("status");
    if (!Number.isInteger(images)) throw foreign();
    token.keep();
    if (images === 0) byId("count").textContent = `No pictures are known yet: ${HOW_TO_ADD}`;
    else byId("count").textContent = images === 1 ? "1 picture known" : `${images.toLocaleString("en")} pictures known`;
  } catch (error) {
    const trouble = asTrouble(error);
    const isWaiting = trouble.retryS !== undefined;
    // The number of before is of more use than that the server is busy.
    if (!isWaiting || !byId("count").textContent) byId("count").textContent = trouble.message;
    if (trouble.wants === "token" && !current) {
      results.say(trouble.message, trouble);
      byId("token").focus();
    }
    if (isWaiting) nextCount = setTimeout(showCount, trouble.retryS * 1000);
  }
}

// What the page must know of its server; asked for until there is an answer.
async function getConfig() {
  for (;;) {
    try {
      const config = await getJson("static/page.json");
      byId("count").textContent = "";
      return config;
    } catch (error) {
      const trouble = asTrouble(error);
      byId("count").textContent = trouble.message;
      if (current) results.say(trouble.message, { more: trouble.more, share: trouble.share, isBusy: true });
      await new Promise((resolve) => setTimeout(resolve, (trouble.retryS ?? RETRY_S) * 1000));
    }
  }
}

// Searches again what this step of the visit asks; returns whether it asks anything.
function searchRecalled() {
  const question = recalled();
  if (question) {
    byId("text").value = question.id ?? question.hash ?? question.url ?? "";
    search(question);
  }
  return Boolean(question);
}

function stop() {
  current?.abort.abort();
  current = null;
  results.hide();
}

function refuse(sentence) {
  noteRefused();
  stop();
  picture.hide();
  results.say(sentence, { isError: true });
  results.reveal();
}

const inputs = watchInputs({
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
byId("turn").addEventListener("click", () => current && search({ ...current.question, isTurned: true }));
byId("token-form").addEventListener("submit", (event) => {
  event.preventDefault();
  token.value = byId("token").value;
  byId("token").value = "";
  if (!current) results.hide();
  showCount();
  if (current) search(current.question);
});
addEventListener("popstate", () => {
  if (searchRecalled() || current?.question.sketch) return;
  stop(); // back to where nothing was asked yet
  picture.hide();
  byId("text").value = "";
});
if (!inputs.takeEarly()) searchRecalled();
configured.then((config) => {
  if (config.fetch) inputs.offerAddresses();
  showCount();
});
