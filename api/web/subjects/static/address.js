// The steps of a visit: each question is one, so that "back" leads to the search before, a picture's included. Ids
// and hashes stand in the address as well, for reloads, bookmarks and links. A file cannot be kept there, and no
// link may make the server fetch what a visitor did not name.
import { questionOf } from "./inputs.js";

const questions = new Map(); // of this visit, by the key that their step has in the history

// The question of this step: as it was asked, or as the address says it; null where nothing was asked.
export function recalled() {
  const [, kind, text] = /^#(id|hash)=(.+)$/.exec(location.hash) ?? [];
  const question = text ? questionOf(text) : null;
  return questions.get(history.state) ?? (question?.[kind] ? question : null);
}

// Makes a step without a question of what was refused before it was asked: "back" leads to the search before it.
export function noteRefused() {
  if (recalled()) history.pushState(null, "", location.pathname + location.search);
}

// Makes a question a step, unless this step asks the same already.
export function note(question) {
  const { id, hash, isTurned } = question;
  const there = recalled();
  const isSameKnown = (id || hash) && there?.id === id && there?.hash === hash && there?.isTurned === isTurned;
  if (there === question || isSameKnown) return;
  const key = String(Math.random());
  questions.set(key, question);
  const fragment = id ? `#id=${id}` : hash ? `#hash=${hash}` : "";
  history.pushState(key, "", fragment || location.pathname + location.search);
}
