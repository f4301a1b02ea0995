// The names page and frame share. The page's file has no imports, so it repeats them; tests/shared.test.js holds both equal.

/** The number both sides must name in the handshake. */
export const PROTOCOL = 1;

/** What the page says to a frame: the hello through the window, the rest through the port that came with it. */
export const TO_FRAME = /** @type {const} */ ({
  hello: 'hello',
  settings: 'settings',
  token: 'token',
  mint: 'mint',
  sync: 'sync',
  seal: 'seal',
  post: 'post',
  done: 'done',
  touch: 'touch',
  clear: 'clear',
});

/** What a frame says to its page. None of it holds any part of what was typed. */
export const TO_PAGE = /** @type {const} */ ({
  ready: 'ready',
  state: 'state',
  focus: 'focus',
  blur: 'blur',
  enter: 'enter',
  answer: 'answer',
  error: 'error',
});

/** Text styles that follow the page's element into the frame. */
export const STYLES = /** @type {const} */ ([
  'background-color', 'color', 'caret-color', 'direction', 'font-family', 'font-feature-settings', 'font-size', 'font-stretch', 'font-style', 'font-variant-numeric',
  'font-weight', 'letter-spacing', 'line-height', 'padding-bottom', 'padding-left', 'padding-right', 'padding-top', 'text-align', 'text-indent',
  'word-spacing',
]);
