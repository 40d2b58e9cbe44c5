// What a card shows: a thumbnail where one is known, else the soft preview that the server makes from the
// signature. With a token, our own pictures are fetched by script, because an <img> cannot carry a header.
import { token } from "./token.js";

export function showPicture(image, match, config) {
  const soft = { address: `images/${match.post_id}/preview.png`, isSoft: true };
  const choices = [soft];
  if (config.pictures) choices.unshift({ address: `images/${match.post_id}/thumbnail` });
  if (config.thumbnail) choices.unshift({ address: config.thumbnail.replaceAll("{id}", match.post_id), isForeign: true });
  image.addEventListener("error", () => next(image, choices));
  next(image, choices);
}

async function next(image, choices) {
  const choice = choices.shift();
  if (!choice) {
    image.hidden = true;
    return;
  }
  image.classList.toggle("soft", Boolean(choice.isSoft));
  image.src = choice.isForeign ? choice.address : await ownAddress(choice.address);
}

export async function ownAddress(path) {
  if (!token.value) return path;
  try {
    const answer = await fetch(path, { headers: token.headers });
    return answer.ok ? URL.createObjectURL(await answer.blob()) : path;
  } catch {
    return path; // the element itself notices that there is none
  }
}
