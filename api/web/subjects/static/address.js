// The question in the address of the page, so that it outlives a reload, a bookmark and the way back from a match.
// Ids and hashes only: a file cannot be kept, and no link may make the server fetch what a visitor did not name.
import { questionOf } from "./inputs.js";

export function addressed() {
  const [, kind, text] = /^#(id|hash)=(.+)$/.exec(location.hash) ?? [];
  const question = text ? questionOf(text) : null;
  return question?.[kind] ? question : null;
}

// Notes what is asked, each question once, so that "back" never leads to the same question again.
export function note({ id, hash }) {
  const there = addressed();
  if (there?.id === id && there?.hash === hash) return;
  const fragment = id ? `#id=${id}` : hash ? `#hash=${hash}` : "";
  history.pushState(null, "", fragment || location.pathname + location.search);
}
