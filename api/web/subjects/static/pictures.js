// The picture of a known image: a thumbnail where one is known, else the soft preview that the server makes from
// the signature. With a token, our own pictures are fetched by script, because an <img> cannot carry a header.
import { token } from "./token.js";

const NEAR = "400px"; // beyond the edge of what is seen, where browsers begin to fetch as well

// What to try, best first: {address, isOurs, isSoft}.
export function picturesOf(id, config) {
  const choices = [{ address: `images/${id}/preview.png`, isOurs: true, isSoft: true }];
  if (config.pictures) choices.unshift({ address: `images/${id}/thumbnail`, isOurs: true });
  if (config.thumbnail) choices.unshift({ address: config.thumbnail.replaceAll("{id}", id) });
  return choices;
}

// Shows the first of these that is there, unless the element has been given something else by then; onNone():
// none is there.
export function showFirst(image, choices, onNone) {
  const rest = [...choices];
  image.onerror = next;
  next();

  async function next() {
    const choice = rest.shift();
    if (!choice) return onNone();
    const address = choice.isOurs ? await fetched(choice.address) : choice.address;
    if (image.onerror !== next) return;
    if (!address) return next();
    image.classList.toggle("soft", Boolean(choice.isSoft));
    image.src = address;
  }
}

// The same for the picture of a match, once its place is about to be seen.
export function showLazily(image, choices) {
  const show = () => showFirst(image, choices, () => (image.hidden = true));
  if (!token.value) return show(); // the browser waits by itself
  const watch = new IntersectionObserver(
    (entries) => {
      if (!entries.some((entry) => entry.isIntersecting)) return;
      watch.disconnect();
      show();
    },
    { rootMargin: NEAR },
  );
  watch.observe(image);
}

// Resolves to an address for an element; "" where there is no picture.
async function fetched(path) {
  if (!token.value) return path;
  try {
    const answer = await fetch(path, { headers: token.headers });
    return answer.ok ? await asAddress(await answer.blob()) : "";
  } catch {
    return ""; // the server is away: the next search tells
  }
}

// The picture itself as an address: it is freed with the element, where a blob's stays until the page is left.
function asAddress(blob) {
  return new Promise((resolve, reject) => {
    const reader = new FileReader();
    reader.onload = () => resolve(reader.result);
    reader.onerror = () => reject(reader.error);
    reader.readAsDataURL(blob);
  });
}
