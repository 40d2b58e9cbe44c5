// Matches as cards. All text goes in as text, never as HTML.
import { picturesOf, showLazily } from "./pictures.js";
import { BADGES, isAddress, kindOf, nameOf, placeOf, sourceOf, sureness, turnOf } from "./words.js";

// onPoint(match or null): the visitor points at this card, or at none any more.
export function card(match, config, onPoint) {
  const item = element("li", "card");
  const kind = kindOf(match);
  const frame = element("div", "frame");
  const image = element("img");
  image.alt = "";
  image.loading = "lazy";
  image.decoding = "async";
  frame.append(image);
  showLazily(image, picturesOf(match.post_id, config));

  const text = element("div", "text");
  const name = nameElement(match, config);
  const place = element("span", "place", placeOf(match));
  place.hidden = place.textContent === "";
  const facts = element("span", "facts", factsOf(match).join(" · "));
  text.append(element("span", `badge ${kind}`, BADGES[kind]), place, name, facts);
  item.append(frame, text);

  if (match.part || turnOf(match)) {
    for (const event of ["pointerenter", "focusin"]) item.addEventListener(event, () => onPoint(match));
    for (const event of ["pointerleave", "focusout"]) item.addEventListener(event, () => onPoint(null));
  }
  return item;
}

function nameElement(match, config) {
  const name = element("a", "name", nameOf(match));
  name.title = sourceOf(match);
  name.href = linkOf(match, config);
  return name;
}

function linkOf(match, config) {
  if (config.link) return config.link.replaceAll("{id}", match.post_id);
  if (match.source && isAddress(match.source)) return match.source;
  return `#id=${match.post_id}`; // its copies, and itself larger
}

function factsOf(match) {
  const facts = [sureness(match)];
  const isCopy = kindOf(match) !== "alike"; // of a stranger, turn and part say nothing
  const turn = turnOf(match);
  if (isCopy && turn) facts.push(turn);
  if (isCopy && match.part) facts.push("a part of yours");
  const number = `#${match.post_id}`;
  if (nameOf(match) !== number) facts.push(number);
  return facts;
}

function element(tag, className = "", text = "") {
  const made = document.createElement(tag);
  made.className = className;
  made.textContent = text;
  return made;
}
