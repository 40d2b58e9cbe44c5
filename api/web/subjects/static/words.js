// What is said of a match. Knows numbers and words, no element of the page.

const SAME = 0.9999; // likelihoods, 0..1; as iqdb_core/likelihood_words.py has them
const PROBABLE = 0.999;
const SAME_SCORE = 85; // for servers that give no likelihood: strangers stay below 60
const PROBABLE_SCORE = 60;
const LOW_DETAIL_BITS = 40;

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

// One rounded number, and never a certainty that nobody has.
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

// The name of a picture: the last part of its path or address, else its number.
export function nameOf(match) {
  const { source } = match;
  if (!source) return `#${match.post_id}`;
  if (!isAddress(source)) return source.split(/[\\/]/).pop() || source;
  const { host, pathname, search } = new URL(source);
  return host + (pathname === "/" ? "" : readable(pathname)) + readable(search);
}

// Percent signs become letters again, but not such as cannot be seen or turn the line around.
function readable(part) {
  try {
    return decodeURI(part).replace(/[\p{C}\p{Z}]/gu, encodeURIComponent);
  } catch {
    return part; // not UTF-8
  }
}

export function isAddress(text) {
  return /^https?:\/\//i.test(text) && URL.canParse(text);
}

// count: of all matches; isCut: there may be more; isOfKnown: the question is a known picture, which is left out.
export function summary(copies, { count, isCut, detail, isOfKnown }) {
  if (detail !== undefined && detail < LOW_DETAIL_BITS && !copies.some((match) => kindOf(match) === "same")) {
    return "This picture has too little detail to tell.";
  }
  if (count === 0 && !isOfKnown) return "No pictures are known yet.";
  if (copies.length === 0) return "No copy known.";
  const same = copies.filter((match) => kindOf(match) === "same").length;
  const orMore = isCut && copies.length === count ? " or more" : "";
  if (same === 0) return copies.length === 1 ? "Probably one copy." : `Probably ${copies.length} copies${orMore}.`;
  return same === 1 ? "Found it." : `Found ${same} copies${orMore}.`;
}

export function isLowDetail(detail) {
  return detail !== undefined && detail < LOW_DETAIL_BITS;
}
