// Every way in which a picture comes in: chosen, dropped, pasted, typed. Tells the page what is asked.
import { isAddress } from "./words.js";

const byId = (id) => document.getElementById(id);

// onQuestion({file} | {hash} | {id} | {url}); onTrouble(sentence); onNothing(sentence): a search for an empty line.
export function watchInputs(canFetch, { onQuestion, onTrouble, onNothing }) {
  const file = byId("file");
  const drop = byId("drop");
  const wanted = canFetch ? "an address (https://…), an id, or a hash" : "an id or a hash";
  const misread = `Type ${wanted}.`;
  byId("text").placeholder = canFetch ? "or an address, id, hash" : "or an id, or a hash";
  byId("text-label").textContent = canFetch ? "Address, id or hash of a picture" : "Id or hash of a picture";

  file.addEventListener("change", () => {
    const chosen = first(file.files);
    file.value = ""; // so that the same file can be chosen again
    if (chosen) onQuestion({ file: chosen });
  });
  byId("form").addEventListener("submit", (event) => {
    event.preventDefault();
    if (byId("text").value.trim()) readText(byId("text").value);
    else onNothing(misread);
  });
  let depth = 0; // of the elements that a dragged file is over
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

  function take(data, otherwise) {
    const chosen = first(data.files);
    if (chosen) return onQuestion({ file: chosen });
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
}

export function questionOf(text) {
  if (/^#?\d{1,19}$/.test(text)) return { id: text.replace("#", "").replace(/^0+(?=\d)/, "") };
  if (/^(iqdb_)?[0-9a-f]{528}$/i.test(text)) return { hash: text };
  return isAddress(text) ? { url: text } : null;
}

function first(list) {
  return [...list].find((one) => one.type.startsWith("image/")) ?? list[0];
}
