// The token of this visit, for servers that ask for one. Forgotten when the tab is closed.

const KEY = "iqdb-token";
let typed = ""; // kept only when a server has accepted it

// A browser that is to keep nothing refuses even to be asked: then a token lasts as long as the page.
function inStorage(act) {
  try {
    return act(sessionStorage);
  } catch {
    return null;
  }
}

export const token = {
  get value() {
    return typed || (inStorage((storage) => storage.getItem(KEY)) ?? "");
  },
  // Blanks and what nobody can see come along when a token is copied. No server has a token with any of them.
  set value(text) {
    typed = text.replace(/[\p{Cc}\p{Cf}\p{Z}]/gu, "");
  },
  keep() {
    if (typed) inStorage((storage) => storage.setItem(KEY, typed));
  },
  // A header holds bytes, and scripts write each of them as one character: those of UTF-8, as the server reads it.
  get headers() {
    if (!this.value) return {};
    const bytes = Array.from(new TextEncoder().encode(this.value), (byte) => String.fromCharCode(byte));
    return { Authorization: `Bearer ${bytes.join("")}` };
  },
};
