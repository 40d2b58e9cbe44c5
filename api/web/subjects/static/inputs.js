// All ways to bring a picture: choose, drop, paste, type. Tells the page what is asked.
import { isAddress } from "./words.js";

const byId = (id) => document.getElementById(id);

// onQuestion({file, others} | {hash} | {id} | {url}), others: how many more were brought with the file;
// onTrouble(sentence); onNothing(sentence): an empty line is to be searched.
export function watchInputs({ onQuestion, onTrouble, onNothing }) {
  const file = byId("file");
  const drop = byId("drop");
  let misread = "Type an id or a hash.";

  file.addEventListener("change", takeChosen);
  byId("form").addEventListener("submit", (event) => {
    event.preventDefault();
    if (byId("text").value.trim()) readText(byId("text").value);
    else onNothing(misread);
  });
  let depth = 0; // how many nested elements a dragged file is over
  document.addEventListener("dragenter", (event) => {
    event.preventDefault();
    depth += 1;
    drop.classList.add("over");
  });
  document.addEventListener("dragover", (event) => event.preventDefault());
  document.addEventListener("dragleave", () => {
    depth = Math.max(0, depth - 1);
    drop.classList.toggle("over", depth > 0);
  });
  document.addEventListener("drop", (event) => {
    event.preventDefault();
    depth = 0;
    drop.classList.remove("over");
    take(event.dataTransfer, "That is neither a picture nor the address of one.");
  });
  document.addEventListener("paste", (event) => {
    const isTyping = event.target instanceof HTMLInputElement && event.target.type !== "file";
    if (isTyping && event.clipboardData.files.length === 0) return;
    event.preventDefault();
    take(event.clipboardData, "There is no picture and no address in the clipboard.");
  });

  function takeChosen() {
    const question = first(file.files);
    file.value = ""; // so that the same file can be chosen again
    if (question) onQuestion(question);
    return question;
  }

  function take(data, otherwise) {
    const question = first(data.files);
    if (question) return onQuestion(question);
    const text = (data.getData("text/uri-list") || data.getData("text/plain")).trim().split(/\s+/)[0];
    if (text) readText(text, otherwise);
    else onTrouble(otherwise);
  }

  function readText(text, otherwise = misread) {
    const asked = questionOf(text.trim());
    if (!asked) return onTrouble(otherwise);
    byId("text").value = text.trim();
    onQuestion(asked);
  }

  // Takes what was chosen or typed before this script ran; returns whether there was anything.
  function takeEarly() {
    if (takeChosen()) return true;
    const asked = questionOf(byId("text").value.trim());
    if (asked) onQuestion(asked);
    return Boolean(asked);
  }

  function offerAddresses() {
    misread = "Type an address (https://…), an id, or a hash.";
    byId("text").placeholder = "or an address, id, hash";
    byId("text-label").textContent = "Address, id or hash of a picture";
  }

  return { takeEarly, offerAddresses };
}

export function questionOf(text) {
  if (/^(iqdb_)?[0-9a-f]{528}$/i.test(text)) return { hash: text };
  if (/^#?\d+$/.test(text)) return { id: text.replace("#", "").replace(/^0+(?=\d)/, "") };
  return isAddress(text) ? { url: text } : null;
}

function first(list) {
  const file = [...list].find((one) => one.type.startsWith("image/")) ?? list[0];
  return file && { file, others: list.length - 1 };
}
