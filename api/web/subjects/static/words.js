// What is said about a match. Knows numbers and words, no element of the page.

const SAME = 0.9999; // likelihoods, 0..1; as iqdb_core/likelihood_words.py has them
const PROBABLE = 0.999;
const SAME_SCORE = 85; // for servers that give no likelihood: strangers stay below 60
const PROBABLE_SCORE = 60;
const LOW_DETAIL_BITS = 40;
const NAME_LENGTH = 60; // characters: what a card has room for
const PLACE_LENGTH = 48;

// Characters that cannot be seen, or change the direction of a line, except the two that join letters and emoji or
// keep them apart.
const UNSEEN = /(?![\u200c\u200d])[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]/gu;
const VISIBLE = /[^\p{C}\p{Z}\p{Default_Ignorable_Code_Point}\ufffd]/u;

export const HOW_TO_ADD = "iqdb add FOLDER adds some.";

export const FORMATS = "JPEG, PNG, WebP, GIF, AVIF, HEIC, TIFF, BMP, JPEG 2000, JPEG XL, ICO, PPM and TGA";

const TURNS = {
  mirror: "mirrored",
  flip: "upside down and mirrored",
  rotate90: "turned by a quarter",
  rotate180: "upside down",
  rotate270: "turned by a quarter",
  transpose: "mirrored and turned by a quarter",
  transverse: "mirrored and turned by a quarter",
};

export function kindOf(match) {
  const [value, same, probable] =
    match.likelihood === undefined
      ? [match.score, SAME_SCORE, PROBABLE_SCORE]
      : [match.likelihood, SAME, PROBABLE];
  return value >= same ? "same" : value >= probable ? "probable" : "alike";
}

export const BADGES = { same: "The same picture", probable: "Probably the same", alike: "Looks alike" };

// One rounded number; how sure it is is never 100 %, which nobody can know.
export function sureness(match) {
  if (kindOf(match) === "alike" || match.likelihood === undefined) return `${Math.max(0, Math.round(match.score))} % alike`;
  if (match.likelihood > 0.99) return "over 99 % sure";
  return `${Math.round(match.likelihood * 100)} % sure`;
}

export function turnOf(match) {
  const turn = match.turn ?? "none";
  const known = TURNS[turn.replace(/^negative-/, "")];
  return [known, turn.startsWith("negative") ? "as a negative" : ""].filter(Boolean).join(", ");
}

// Every name of a picture is shown through this.
export function shownName(name, otherwise) {
  return VISIBLE.test(name) ? name.replace(UNSEEN, "\ufffd") : otherwise;
}

// The whole source of a picture, else its number.
export function sourceOf(match) {
  return shownName(match.source ?? "", `#${match.post_id}`);
}

// The name of a picture: the last part of its path, or its address, else its number.
export function nameOf(match) {
  const { name, host, pathname, search } = partsOf(match.source ?? "");
  const whole = name ?? host + (pathname === "/" ? "" : readable(pathname)) + readable(search);
  return cut(shownName(whole, `#${match.post_id}`), NAME_LENGTH);
}

// The folder of a picture: cameras use the same few names again and again.
export function placeOf(match) {
  return cut(shownName(partsOf(match.source ?? "").place ?? "", ""), PLACE_LENGTH);
}

function partsOf(source) {
  if (isAddress(source)) return new URL(source);
  // A regular expression for the last part would start anew at each character.
  let end = source.length;
  while (end > 0 && isSlash(source[end - 1])) end--;
  let begin = end;
  while (begin > 0 && !isSlash(source[begin - 1])) begin--;
  return { place: source.slice(0, begin), name: source.slice(begin) };
}

function isSlash(letter) {
  return letter === "/" || letter === "\\";
}

// Beginning and end of a name say more than its middle.
function cut(text, length) {
  const letters = [...text];
  if (letters.length <= length) return text;
  const head = Math.floor(length / 3);
  return `${letters.slice(0, head).join("")}…${letters.slice(head + 1 - length).join("")}`;
}

// Says which one was searched if several pictures were dropped at once.
export function asideOf({ file, others }) {
  return others ? `Only ${cut(shownName(file.name, "the first"), NAME_LENGTH)} was taken: one picture at a time.` : "";
}

// Decodes percent signs, except to characters that cannot be seen or change the direction of a line.
function readable(part) {
  try {
    return decodeURI(part).replace(/[\p{C}\p{Z}]/gu, encodeURIComponent);
  } catch {
    return part; // not UTF-8
  }
}

export function isAddress(text) {
  if (!/^https?:\/\//i.test(text)) return false;
  try {
    return Boolean(new URL(text)); // URL.canParse is missing in browsers of before 2023
  } catch {
    return false;
  }
}

// count: of all matches; isCut: there may be more; isOfKnown: the question is a known picture, which is left out.
export function summary(copies, { count, isCut, detail, isOfKnown }) {
  if (detail !== undefined && detail < LOW_DETAIL_BITS && !copies.some((match) => kindOf(match) === "same")) {
    return "This picture has too little detail to tell.";
  }
  if (count === 0 && !isOfKnown) return "No pictures are known yet.";
  if (copies.length === 0) return "No copy known.";
  const isOpen = isCut && copies.length === count;
  const same = copies.filter((match) => kindOf(match) === "same");
  if (same.length === 0) {
    return copies.length === 1 ? "Probably one copy." : `Probably ${copies.length} copies${isOpen ? " or more" : ""}.`;
  }
  if (isOfKnown) {
    return same.length === 1 ? `One copy known: ${nameOf(same[0])}.` : `${isOpen ? "At least " : ""}${same.length} copies known.`;
  }
  const others = same.length === 1 ? "" : `, and ${isOpen ? "at least " : ""}${same.length - 1} more`;
  return `Found it: ${nameOf(same[0])}${others}.`;
}

export function isLowDetail(detail) {
  return detail !== undefined && detail < LOW_DETAIL_BITS;
}
