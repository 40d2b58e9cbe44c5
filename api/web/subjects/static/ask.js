// Puts one question to the server: gives its answer, or throws a Trouble. Knows the API, no element of the page.
import { Trouble, foreign, troubleOf, unreachable } from "./trouble.js";
import { token } from "./token.js";

const LIMIT = 48;

// Ids run to 2^63-1, beyond what a JavaScript number holds: they are kept as text. Quotes inside of strings are
// escaped in JSON, so no string can look like this.
function parsePrecisely(text) {
  return JSON.parse(text.replace(/"post_id":(\d+)/g, '"post_id":"$1"'));
}

// question: {file} | {hash} | {id} | {url} | {sketch}, with isTurned: in all eight turns; resolves to {matches,
// isCut, detail, isDamaged}, where isCut says that there may be more.
export async function ask(question, { signal, onProgress, maxBytes, canFetch }) {
  if (question.url && !canFetch) {
    const more = "Save the picture and drop it here, or copy the picture itself and paste it.";
    throw new Trouble("This server does not fetch addresses.", { more });
  }
  const picture = question.file ?? question.sketch;
  if (picture && maxBytes && picture.size > maxBytes) {
    throw troubleOf(413, "", { size: picture.size, maxBytes });
  }
  if (picture) await checkReadable(picture);
  const form = new FormData();
  if (picture) form.append("file", picture, picture.name || "picture");
  if (question.hash) form.append("hash", question.hash);
  if (question.id) form.append("post_id", question.id);
  if (question.url) form.append("url", question.url);
  const mode = question.sketch ? "mode=sketch" : `find=copies${question.isTurned ? "&turns=all" : ""}`;
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest(); // fetch does not report the progress of an upload
    request.open("POST", `query?${mode}&limit=${LIMIT}`);
    for (const [name, value] of Object.entries(token.headers)) request.setRequestHeader(name, value);
    request.upload.onprogress = (event) => event.lengthComputable && onProgress(event.loaded / event.total);
    request.onload = () => {
      const failure = { size: picture?.size, maxBytes, question, retry: request.getResponseHeader("Retry-After") };
      if (request.status !== 200) return reject(troubleOf(request.status, request.responseText, failure));
      try {
        const detail = request.getResponseHeader("X-Query-Detail");
        const matches = parsePrecisely(request.responseText);
        if (!Array.isArray(matches)) return reject(foreign());
        token.keep();
        const isDamaged = request.getResponseHeader("X-Query-Damaged") === "true";
        const isCut = matches.length >= LIMIT;
        resolve({ matches, isCut, detail: detail === null ? undefined : Number(detail), isDamaged });
      } catch {
        reject(foreign());
      }
    };
    // A proxy that refuses a large body often hangs up before all is sent: then there is no answer at all.
    request.onerror = () => reject(unreachable());
    signal.addEventListener("abort", () => request.abort());
    if (!signal.aborted) request.send(form);
  });
}

// Of a folder, or a file that is gone by now, a browser would only say that the request failed.
async function checkReadable(picture) {
  try {
    await picture.slice(0, 1).arrayBuffer();
  } catch {
    throw new Trouble("This file cannot be read.", { more: "Is it a folder, or was it moved or deleted?" });
  }
}

// Resolves to the JSON object that the server gives at this path.
export async function getJson(path) {
  const { headers } = token;
  let answer, text;
  try {
    answer = await fetch(path, { headers });
    text = await answer.text();
  } catch {
    throw unreachable();
  }
  if (!answer.ok) throw troubleOf(answer.status, text, { retry: answer.headers.get("Retry-After") });
  return parseObject(text);
}

function parseObject(text) {
  try {
    const found = parsePrecisely(text);
    if (typeof found === "object" && found !== null) return found;
  } catch {
    // answered below, as is JSON that is no object
  }
  throw foreign();
}
