// What is said and shown of a search: how far it is, what was found, what went wrong.
import { card } from "./cards.js";
import { BADGES, isLowDetail, kindOf, summary } from "./words.js";

const byId = (id) => document.getElementById(id);

export function createResults(config, onPoint) {
  const saying = document.querySelector(".saying");

  // Says something new; whatever stood there of an older search is gone.
  function say(sentence, { more = "", isError = false, share, isBusy = false, wants, canRetry = false } = {}) {
    byId("main").classList.add("asked");
    byId("found").hidden = false;
    saying.classList.toggle("error", isError);
    // Only a new sentence is read out, not every step of an upload.
    if (byId("message").textContent !== sentence) byId("message").textContent = sentence;
    byId("more").textContent = more;
    byId("more").hidden = more === "";
    byId("progress").hidden = !isBusy;
    if (share === undefined) byId("progress").removeAttribute("value");
    else byId("progress").value = share;
    byId("token-form").hidden = wants !== "token";
    byId("again").hidden = !canRetry;
  }

  function clear() {
    byId("copies").replaceChildren();
    byId("alike").replaceChildren();
    byId("strangers").hidden = true;
    byId("strangers").open = false;
  }

  function show({ matches, detail, isDamaged }, isSketch) {
    clear();
    const cards = (list) => list.map((match) => card(match, config, onPoint));
    if (isSketch) {
      const sentence = matches.length ? "These look most like it." : "No pictures are known yet.";
      say(sentence);
      byId("copies").replaceChildren(...cards(matches));
      return null;
    }
    const copies = matches.filter((match) => kindOf(match) !== "alike");
    const strangers = matches.filter((match) => kindOf(match) === "alike");
    const more = isLowDetail(detail) ? "Plain pictures look like each other, whatever they show." : moreOf(copies);
    const damage = isDamaged ? "A part of your picture is missing: the file is damaged." : "";
    say(summary(copies, matches.length, detail), { more: [more, damage].filter(Boolean).join(" ") });
    byId("copies").replaceChildren(...cards(copies));
    byId("alike").replaceChildren(...cards(strangers));
    byId("strangers").hidden = strangers.length === 0;
    return copies[0] ?? null;
  }

  function moreOf(copies) {
    const probable = copies.filter((match) => kindOf(match) === "probable").length;
    if (probable === 0 || probable === copies.length) return "";
    return `and ${probable} that ${probable === 1 ? "is" : "are"} ${BADGES.probable.toLowerCase()}.`;
  }

  function hide() {
    clear();
    byId("found").hidden = true;
  }

  return { say, clear, hide, show };
}
