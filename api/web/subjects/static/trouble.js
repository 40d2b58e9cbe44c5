// What went wrong, as a sentence for people, and whether the page should try again by itself.
import { FORMATS } from "./words.js";

export class Trouble extends Error {
  // more: a second sentence; retryS: seconds until the next try, undefined for none; share: 0..1, how much of its
  // start the server has done; wants: "token" if a token would help, "line" if a connection would.
  constructor(message, { more = "", retryS, share, wants } = {}) {
    super(message);
    Object.assign(this, { more, retryS, share, wants });
  }
}

// An answer that does not belong to this API: of a proxy, or of whatever else listens there now.
export function foreign() {
  return new Trouble("Something that is not this server answered in its place.");
}

// An unforeseen error goes to the console: its text would say nothing to a visitor.
export function asTrouble(error) {
  if (error instanceof Trouble) return error;
  console.error(error);
  return new Trouble("Something went wrong on this page.", { more: "Load it again, and search once more." });
}

export function unreachable() {
  if (!navigator.onLine) {
    return new Trouble("You are offline.", { more: "The search goes on as soon as you are back.", wants: "line" });
  }
  return new Trouble("The server could not be reached.", { more: "Trying again …", retryS: 3 });
}

export function troubleOf(status, text, { size, maxBytes, question = {}, retry } = {}) {
  const said = messageIn(text); // "" where a proxy answers in HTML
  const retryS = Math.min(30, Number(retry) || 1);
  switch (status) {
    case 401:
    case 403:
      if (!/token/i.test(said)) break; // a proxy's own refusal, which no token of ours would change
      if (said.includes("not one of this")) return new Trouble("This server does not know the token.", { wants: "token" });
      // The server's words say how a program sends one, which is of no use to a visitor.
      return new Trouble("This server asks for a token.", {
        more: said.includes("Bearer") ? "Whoever runs it can give you one." : sentence(said),
        wants: "token",
      });
    case 404:
      if (question.id && said) return new Trouble(`No picture with the id ${question.id} is known.`);
      break;
    case 413:
      return new Trouble("This picture is too large.", { more: sizes(said, size, maxBytes) });
    case 422:
      if (said.includes("not an image")) return new Trouble("This cannot be read as a picture.", { more: `Readable are ${FORMATS}.` });
      return new Trouble("This picture cannot be read.", { more: `${sentence(said)} Readable are ${FORMATS}.` });
    case 429:
      return new Trouble("The server is busy.", { more: "Trying again …", retryS });
    case 503:
      return starting(said, retryS);
  }
  if (said) return new Trouble(sentence(said));
  if (status >= 500) {
    return new Trouble("The server does not answer at the moment.", { more: "Trying again …", retryS: 3 });
  }
  return new Trouble(`The server refused this, without saying why (status ${status}).`);
}

function starting(said, retryS) {
  const loaded = /loaded ([\d,]+) of ([\d,]+)/.exec(said);
  const [done, total] = loaded ? loaded.slice(1).map((digits) => Number(digits.replaceAll(",", ""))) : [0, 0];
  const share = total > 0 ? done / total : undefined;
  const isStarting = said.includes("starting");
  const words = isStarting ? "The server is starting." : "The server cannot answer at the moment.";
  return new Trouble(words, { more: `${sentence(said)} Trying again …`, retryS, share });
}

function sizes(said, size, maxBytes) {
  if (said.includes("pixels")) return sentence(said);
  const is = size ? `It has ${megabytes(size)}. ` : "";
  if (maxBytes && size > maxBytes) return `${is}The server takes at most ${megabytes(maxBytes)}.`;
  return `${is}The server, or a proxy in front of it, takes less.`;
}

function megabytes(bytes) {
  return `${(bytes / 2 ** 20).toLocaleString("en", { maximumFractionDigits: bytes < 10 * 2 ** 20 ? 1 : 0 })} MB`;
}

function messageIn(text) {
  try {
    const { message } = JSON.parse(text);
    return typeof message === "string" ? message : "";
  } catch {
    return "";
  }
}

function sentence(text) {
  if (!text) return "";
  return text[0].toUpperCase() + text.slice(1) + (/[.!?…]$/.test(text) ? "" : ".");
}
