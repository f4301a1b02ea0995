// The frame: one handshake with the page that holds it, then what the page asks for. Only sealed bodies and secureValueKeys leave it.

import { PROTOCOL, TO_FRAME, TO_PAGE } from '../shared/protocol.js';
import { Field } from './field.js';
import { sealCapture, sessionOf } from './seal.js';
import { VaultError, captureValues, describe, mint } from './vault.js';

const { app = '', origins = '' } = document.documentElement.dataset;
const input = /** @type {HTMLInputElement} */ (document.getElementById('field'));
/** @type {MessagePort|null} */
let port = null;
let name = '';
let token = '';
/** @type {{keyId: string, publicKey: string}|null} */
let key = null;
/** The text as it was sealed last, so that a retry is the same request. @type {{text: string, token: string, body: string}|null} */
let sealed = null;

const say = (/** @type {string} */ type, /** @type {object} */ rest = {}) => port?.postMessage({ type, ...rest });
const field = new Field(input, {
  state: (state, message, edited) => say(TO_PAGE.state, { state, message, edited }),
  focus: () => say(TO_PAGE.focus),
  blur: () => say(TO_PAGE.blur),
  enter: () => say(TO_PAGE.enter),
});

/** What the page asks for and gets an answer to, after all that was said before. @type {Record<string, (ask: any) => Promise<object>>} */
const answers = {
  [TO_FRAME.sync]: async () => {
    field.flush();
    return {};
  },
  [TO_FRAME.mint]: async () => ({ token: (await mint(app)).captureToken }),
  [TO_FRAME.token]: async (ask) => {
    const session = await describe(String(ask.token));
    const spec = session.fields?.find((one) => one.field === name);
    const usable = session.keys?.find((one) => one.kem === 'P-256');
    if (session.app !== app) throw new VaultError('app_mismatch', false);
    if (!spec) throw new VaultError('field_unknown', false);
    if (!usable) throw new VaultError('answer', false);
    [token, key] = [String(ask.token), usable];
    field.follow(spec);
    // Whoever focused the frame while the input was disabled means the input.
    if (document.hasFocus()) input.focus();
    return {};
  },
  [TO_FRAME.seal]: async (ask) => {
    const { code, text } = field.reading;
    if (code || !key) throw new VaultError(code ?? 'loading', false);
    field.lock(true);
    if (ask.again === true || sealed?.text !== text || sealed.token !== token) {
      sealed = { text, token, body: await sealCapture(text, key, { app, session: sessionOf(token), field: name }) };
    }
    return { sealed: sealed.body };
  },
  [TO_FRAME.post]: async (ask) => {
    const values = ask.values.map((/** @type {any} */ one) => ({ field: String(one.field), sealed: String(one.sealed) }));
    const answer = await captureValues(token, values);
    return { values: answer.values.map(({ secureValueKey, expiresAt = null }) => ({ secureValueKey, expiresAt })) };
  },
};

/** What the page says and gets no answer to. @type {Record<string, (said: any) => void>} */
const orders = {
  [TO_FRAME.settings]: (said) => field.set(said.settings ?? {}),
  [TO_FRAME.touch]: () => field.touch(),
  [TO_FRAME.clear]: () => forget(false),
  [TO_FRAME.done]: (said) => (said.captured === true ? forget(true) : field.lock(false)),
};

/** @param {boolean} captured */
function forget(captured) {
  sealed = null;
  field.wipe(captured);
}

/** @param {MessageEvent} event */
async function heard({ data }) {
  if (typeof data !== 'object' || data === null) return;
  if (Object.hasOwn(orders, data.type)) return orders[data.type](data);
  if (!Object.hasOwn(answers, data.type)) return;
  try {
    say(TO_PAGE.answer, { id: data.id, ...(await answers[data.type](data)) });
  } catch (error) {
    // Anything unforeseen is told as `frame`: a message of the engine may hold what it was given.
    const { code, retryable } = error instanceof VaultError ? error : { code: 'frame', retryable: false };
    say(TO_PAGE.answer, { id: data.id, error: { code, retryable } });
  }
}

const once = new AbortController();
/** The first hello from the window that holds us, from an origin of the app, with a port: no other is ever heard. @param {MessageEvent} event */
function hello(event) {
  if (event.source !== parent || parent === window || !origins.split(' ').includes(event.origin)) return;
  if (event.data?.type !== TO_FRAME.hello || !event.ports[0]) return;
  once.abort();
  [port] = event.ports;
  port.onmessage = heard;
  if (event.data.siv !== PROTOCOL) return say(TO_PAGE.error, { code: 'protocol' });
  name = String(event.data.field);
  field.set(event.data.settings ?? {});
  say(TO_PAGE.ready, { siv: PROTOCOL });
}

addEventListener('message', hello, { signal: once.signal });
// Whoever focuses the frame, by a label or by focus(), means the field.
addEventListener('focus', () => input.focus());
document.addEventListener('click', () => input.focus());
// The form is there for what fills in forms; nothing is ever submitted from here.
document.addEventListener('submit', (event) => event.preventDefault());
// Kept pages (back and forward) keep no text.
addEventListener('pagehide', () => forget(false));
