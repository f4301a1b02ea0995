// <secure-input>: a form field whose text lives in a frame of the vault's origin. This page gets a secureValueKey and never the text.

const PROTOCOL = 1;

const TO_FRAME = /** @type {const} */ ({
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

const TO_PAGE = /** @type {const} */ ({
  ready: 'ready',
  state: 'state',
  focus: 'focus',
  blur: 'blur',
  enter: 'enter',
  answer: 'answer',
  error: 'error',
});

const STYLES = /** @type {const} */ ([
  'background-color', 'color', 'caret-color', 'direction', 'font-family', 'font-feature-settings', 'font-size', 'font-stretch', 'font-style', 'font-variant-numeric',
  'font-weight', 'letter-spacing', 'line-height', 'padding-bottom', 'padding-left', 'padding-right', 'padding-top', 'text-align', 'text-indent',
  'word-spacing',
]);

const VAULT = new URL(import.meta.url).origin;
const ATTEMPTS = [500, 1500, 0];
/** A frame loads within the first time; once loaded it says hello within the second. */
const [LOADING, GREETING] = [15_000, 4_000];

/** @typedef {{empty: boolean, complete: boolean, valid: boolean, code: string|null, brand?: string}} SecureState */
/** @typedef {{secureValueKey: string, expiresAt: string|null}} SecureValue */
/** @typedef {SecureValue & {field: string}} CapturedValue */
/** @typedef {(wanted: {app: string}) => string|Promise<string>} GetCaptureToken */

/** Why a field could not be captured. Never holds what was typed. */
export class SecureInputError extends Error {
  /** @param {string} who @param {string} code @param {boolean} [retryable] @param {string} [field] */
  constructor(who, code, retryable = false, field = '') {
    super(`${field || who}: ${code}`);
    this.name = 'SecureInputError';
    this.who = who;
    this.code = code;
    this.retryable = retryable;
    this.field = field;
  }
}

/** All events of the element bubble, and none has content. */
class SecureEvent extends Event {
  /** @param {string} type @param {EventInit} [init] */
  constructor(type, init) {
    super(type, { bubbles: true, composed: true, ...init });
  }
}
export class SecureReadyEvent extends SecureEvent {}
export class SecureFocusEvent extends SecureEvent {}
export class SecureBlurEvent extends SecureEvent {}
export class SecureEnterEvent extends SecureEvent {}
export class SecureChangeEvent extends SecureEvent {
  /** @param {string} type @param {SecureState} state */
  constructor(type, state) {
    super(type);
    this.state = state;
  }
}
export class SecureErrorEvent extends SecureEvent {
  /** @param {string} type @param {SecureInputError} error */
  constructor(type, error) {
    super(type);
    this.error = error;
    this.who = error.who;
    this.code = error.code;
    this.retryable = error.retryable;
  }
}

const sheet = new CSSStyleSheet();
sheet.replaceSync(`
:host { display: block; position: relative; box-sizing: border-box; padding: 8px 12px; border: 1px solid #767b85; font: 16px/1.5 system-ui, sans-serif; cursor: text }
:host([hidden]), [hidden] { display: none }
.line { color: inherit; background-color: inherit; visibility: hidden; transition: all 1ms allow-discrete }
.line::after { content: '\\a0' }
:host(:state(failed)) .line { display: none }
iframe { position: absolute; inset: 0; inline-size: 100%; block-size: 100%; border: 0; border-radius: inherit; color-scheme: only light }`);

/** @type {GetCaptureToken|undefined} */
let getCaptureToken;
/** One capture session for all fields of an app, where the page names none. @type {Map<string, Promise<string>>} */
const sessions = new Map();
/** The fields in the page: those that wait or failed begin anew when the page says how to get a token. @type {Set<SecureInput>} */
const live = new Set();
/** Which field an error is about: two may have the same name. @type {WeakMap<SecureInputError, SecureInput>} */
const owners = new WeakMap();
/** Forms whose fields are on their way. @type {WeakSet<HTMLFormElement>} */
const submitting = new WeakSet();
/** A form whose fields have arrived, while it is submitted. @type {WeakSet<HTMLFormElement>} */
const arrived = new WeakSet();

export class SecureInput extends HTMLElement {
  static formAssociated = true;
  static observedAttributes = ['app', 'field', 'capture-token', 'required', 'placeholder', 'label', 'autocomplete'];

  /** @param {{getCaptureToken?: GetCaptureToken}} options */
  static configure(options) {
    ({ getCaptureToken } = options);
    sessions.clear();
    // A field may have asked its frame for a token before the page said that it has one.
    for (const one of live) if (!one.hasAttribute('capture-token') && !one.#usable && (one.#port || !one.#fallback.hidden)) one.#mount();
  }

  /** Captures all fields of a form, or those of a list, in one request: all or none. What was typed until now counts: each frame has said it before it answers. @param {HTMLFormElement|Iterable<SecureInput>} from */
  static async capture(from) {
    const all = from instanceof HTMLFormElement ? fieldsOf(from) : [...from];
    await Promise.allSettled(all.map((one) => one.#sync()));
    while (all.some((one) => one.#busy)) await Promise.allSettled(all.map((one) => one.#busy));
    const open = all.filter((one) => !one.#settled);
    const work = SecureInput.#captureOpen(open);
    for (const one of open) one.#busy = work;
    await work.finally(() => open.forEach((one) => { one.#busy = null; }));
    return { values: all.flatMap((one) => (one.#captured ? { ...one.#captured } : [])) };
  }

  #internals = this.attachInternals();
  #root = this.attachShadow({ mode: 'open', delegatesFocus: true });
  #line = make('span', { class: 'line' });
  #fallback = make('div', { part: 'fallback', role: 'alert', hidden: '' });
  #frame = make('iframe', {});
  /** Ends with the frame; every listener hangs on it. @type {AbortController|undefined} */
  #life;
  /** @type {AbortController|undefined} */
  #formLife;
  /** @type {MessagePort|undefined} */
  #port;
  /** @type {Map<number, PromiseWithResolvers<any>>} */
  #asked = new Map();
  #count = 0;
  /** @type {PromiseWithResolvers<void>} */
  #ready = Promise.withResolvers();
  #usable = false;
  #focused = false;
  #touched = false;
  #token = '';
  #sent = '';
  #message = '';
  #state = loading();
  /** @type {CapturedValue|null} */
  #captured = null;
  /** @type {Promise<unknown>|null} */
  #busy = null;

  constructor() {
    super();
    this.#root.adoptedStyleSheets = [sheet];
    const words = make('slot', {}, 'This field could not be loaded. ');
    const retry = make('button', { type: 'button', part: 'retry' }, 'Try again');
    retry.addEventListener('click', () => this.#mount());
    this.#fallback.append(words, retry);
    this.#root.append(this.#line, this.#fallback);
    this.#ready.promise.catch(() => {});
    this.addEventListener('invalid', () => this.#touch());
  }

  get app() { return this.getAttribute('app') ?? ''; }
  get field() { return this.getAttribute('field') ?? ''; }
  get name() { return this.getAttribute('name') ?? ''; }
  get required() { return this.hasAttribute('required'); }
  get form() { return this.#internals.form; }
  get labels() { return this.#internals.labels; }
  get validity() { return this.#internals.validity; }
  get validationMessage() { return this.#internals.validationMessage; }
  get ready() { return this.#ready.promise; }
  get state() { return { ...this.#state }; }
  get empty() { return this.#state.empty; }
  get valid() { return this.#state.valid; }
  get secureValueKey() { return this.#captured?.secureValueKey ?? null; }
  checkValidity() { return this.#internals.checkValidity(); }
  reportValidity() { return this.#internals.reportValidity(); }

  /** Captures this field. @returns {Promise<SecureValue>} */
  async capture() {
    const [value] = (await SecureInput.capture([this])).values;
    if (!value) {
      const error = this.#error('field', 'empty');
      this.#tell(error);
      throw error;
    }
    const { secureValueKey, expiresAt } = value;
    return { secureValueKey, expiresAt };
  }

  /** Forgets what was typed or captured. */
  clear() {
    this.#touched = false;
    this.#keep(null);
    this.#say(TO_FRAME.clear);
    this.#show();
  }

  /** @override @param {FocusOptions} [options] */
  focus(options) {
    if (!this.#focused) super.focus(options);
  }

  connectedCallback() {
    live.add(this);
    this.#mount();
  }

  disconnectedCallback() {
    live.delete(this);
    this.#end();
  }

  formDisabledCallback() { this.#show(); }
  formResetCallback() { this.clear(); }

  /** @param {HTMLFormElement|null} form */
  formAssociatedCallback(form) {
    this.#formLife?.abort();
    this.#formLife = new AbortController();
    form?.addEventListener('submit', (event) => this.#submit(event, form), { capture: true, signal: this.#formLife.signal });
  }

  /** @param {string} name @param {string|null} before @param {string|null} now */
  attributeChangedCallback(name, before, now) {
    if (!this.#life || before === now) return;
    if (name === 'app' || name === 'field') this.#mount();
    else if (name !== 'capture-token') this.#show();
    else if (this.#fallback.hidden) this.#authorise();
    else this.#mount();
  }

  /** Nothing is left to capture. */
  get #settled() {
    return Boolean(this.#captured) || this.matches(':disabled') || (this.#usable && this.#state.empty && !this.required);
  }

  #mount() {
    this.#end();
    const before = this.#ready;
    this.#ready = Promise.withResolvers();
    this.#ready.promise.catch(() => {});
    before.resolve(this.#ready.promise);
    const life = (this.#life = new AbortController());
    const show = () => this.#show();
    // What may change how the page's element looks, and so how the text in the frame must.
    const watch = new ResizeObserver(show);
    watch.observe(this);
    life.signal.addEventListener('abort', () => watch.disconnect());
    this.addEventListener('transitionend', show, life);
    // The line inherits how the element looks and fades to it: so a class or a theme that is changed at run time is told.
    this.#line.addEventListener('transitionend', show, life);
    matchMedia('(prefers-color-scheme: dark)').addEventListener('change', show, life);
    this.#load(0, life.signal);
    show();
  }

  #end() {
    this.#life?.abort();
    this.#life = undefined;
    this.#port?.close();
    this.#port = undefined;
    this.#frame.remove();
    for (const { reject } of this.#asked.values()) reject(this.#error('frame', 'gone', true));
    this.#asked.clear();
    this.#fallback.hidden = true;
    this.#usable = this.#focused = this.#touched = false;
    this.#state = loading();
    this.#keep(null);
  }

  /** @param {number} attempt @param {AbortSignal} signal */
  #load(attempt, signal) {
    const frame = (this.#frame = make('iframe', {
      part: 'frame', title: 'Secure field', src: `${VAULT}/f/${encodeURIComponent(this.app)}/`, referrerpolicy: 'no-referrer',
      sandbox: 'allow-scripts allow-same-origin allow-forms',
    }));
    const failed = () => {
      if (signal.aborted) return;
      frame.remove();
      if (!ATTEMPTS[attempt]) return this.#fail(this.#error('frame', 'frame_unavailable', true));
      timer = setTimeout(() => this.#load(attempt + 1, signal), ATTEMPTS[attempt]);
    };
    let timer = setTimeout(failed, LOADING);
    let loads = 0;
    signal.addEventListener('abort', () => clearTimeout(timer));
    frame.addEventListener('load', () => {
      clearTimeout(timer);
      // A second document in our frame is not the one we shook hands with.
      if ((loads += 1) > 1) return this.#fail(this.#error('frame', 'frame_reloaded', true));
      timer = setTimeout(failed, GREETING);
      const { port1, port2 } = new MessageChannel();
      port1.onmessage = ({ data }) => {
        clearTimeout(timer);
        this.#port = port1;
        if (!signal.aborted) this.#heard(data);
      };
      frame.contentWindow?.postMessage({ siv: PROTOCOL, type: TO_FRAME.hello, field: this.field, settings: this.#settings() }, VAULT, [port2]);
    }, { signal });
    this.#root.append(frame);
  }

  /** @param {string} type @param {object} [rest] */
  #say(type, rest) {
    this.#port?.postMessage({ type, ...rest });
  }

  /** @param {string} type @param {object} [rest] @returns {Promise<any>} */
  #ask(type, rest) {
    const answer = Promise.withResolvers();
    this.#asked.set((this.#count += 1), answer);
    this.#say(type, { id: this.#count, ...rest });
    return answer.promise;
  }

  /** Hears all that the frame has to say; one that does not answer is of no use. */
  async #sync() {
    if (!this.#usable || this.matches(':disabled')) return;
    const late = setTimeout(() => this.#fail(this.#error('frame', 'frame_unavailable', true)), LOADING);
    await this.#ask(TO_FRAME.sync).finally(() => clearTimeout(late));
  }

  /** @param {any} said by the frame that answered our one hello, through the one port */
  #heard(said) {
    switch (said.type) {
      case TO_PAGE.ready:
        this.#authorise();
        break;
      case TO_PAGE.error:
        this.#fail(this.#error('frame', said.code));
        break;
      case TO_PAGE.answer: {
        const { resolve, reject } = this.#asked.get(said.id) ?? Promise.withResolvers();
        this.#asked.delete(said.id);
        if (said.error) reject(this.#error('vault', said.error.code, said.error.retryable));
        else resolve(said);
        break;
      }
      case TO_PAGE.state: {
        const { empty, complete, valid, code, brand } = said.state;
        const state = brand ? { empty, complete, valid, code, brand } : { empty, complete, valid, code };
        const changed = JSON.stringify(state) !== JSON.stringify(this.#state);
        [this.#state, this.#message] = [state, said.message];
        if (said.edited) this.#keep(null);
        this.#show();
        if (changed) this.dispatchEvent(new SecureChangeEvent('secure-change', { ...state }));
        break;
      }
      case TO_PAGE.focus:
        this.#focused = true;
        this.#show();
        this.dispatchEvent(new SecureFocusEvent('secure-focus'));
        break;
      case TO_PAGE.blur:
        this.#focused = false;
        if (!this.#state.empty) this.#touch();
        this.#show();
        this.dispatchEvent(new SecureBlurEvent('secure-blur'));
        break;
      case TO_PAGE.enter: {
        if (!this.dispatchEvent(new SecureEnterEvent('secure-enter', { cancelable: true }))) break;
        const button = [.../** @type {any} */ (this.form?.elements ?? [])].find((one) => one.type === 'submit' || one.type === 'image');
        if (button) button.click();
        else this.form?.requestSubmit();
      }
    }
  }

  /** Gives the frame its capture token; an old one is replaced once, where the page says how. */
  async #authorise(renew = false) {
    const signal = this.#life?.signal;
    const own = this.getAttribute('capture-token');
    if (own === '' || !this.#port) return;
    try {
      await this.#use(own && !renew ? own : await this.#session(renew));
      if (this.#usable) return;
      this.#usable = true;
      this.#show();
      // Whoever focused the element before its frame was there means the field.
      if (this.#root.activeElement === this.#frame) this.#frame.contentWindow?.focus();
      this.#ready.resolve();
      this.dispatchEvent(new SecureReadyEvent('secure-ready'));
    } catch (error) {
      if (signal?.aborted) return;
      const known = this.#asError(error);
      if (!renew && canRenew(known, this)) this.#authorise(true);
      else this.#fail(known);
    }
  }

  /** @param {string} token */
  async #use(token) {
    await this.#ask(TO_FRAME.token, { token });
    this.#token = token;
  }

  /** The session all fields of the app share. @param {boolean} renew @returns {Promise<string>} */
  #session(renew) {
    const { app } = this;
    let session = renew ? undefined : sessions.get(app);
    if (!session) {
      session = getCaptureToken ? insist(getCaptureToken, app) : this.#ask(TO_FRAME.mint).then(({ token }) => token);
      sessions.set(app, session);
      session.catch(() => sessions.get(app) === session && sessions.delete(app));
    }
    return session;
  }

  /** An error of this field. @param {string} who @param {string} code @param {boolean} [retryable] */
  #error(who, code, retryable = false) {
    const error = new SecureInputError(who, code, retryable, this.field);
    owners.set(error, this);
    return error;
  }

  /** What is not an error of ours came out of the page's `getCaptureToken`. @param {unknown} error */
  #asError(error) {
    return error instanceof SecureInputError ? error : this.#error('page', 'capture_token', true);
  }

  /** The field cannot be used. @param {SecureInputError} error */
  #fail(error) {
    this.#end();
    this.#life = new AbortController();
    this.#state.code = error.code;
    this.#fallback.hidden = false;
    this.#show();
    this.#ready.reject(error);
    this.#tell(error);
  }

  /** @param {SecureInputError} error */
  #tell(error) {
    this.dispatchEvent(new SecureErrorEvent('secure-error', error));
  }

  #touch() {
    if (this.#touched || this.#captured) return;
    this.#touched = true;
    this.#say(TO_FRAME.touch);
    this.#show();
  }

  /** @param {CapturedValue|null} value */
  #keep(value) {
    this.#captured = value;
    this.#internals.setFormValue(value && value.secureValueKey);
  }

  /** Validity, states, and the frame's look follow from what is known. */
  #show() {
    const { empty, complete, code } = this.#state;
    const wrong = !this.#captured && code !== null && !this.matches(':disabled');
    const words = this.#message || (this.#usable ? 'Check this field' : 'This field is not ready yet');
    const anchor = this.#frame.isConnected ? this.#frame : undefined;
    this.#internals.setValidity(wrong ? { valueMissing: code === 'empty', badInput: code !== 'empty' } : {}, wrong ? words : '', anchor);
    const { states } = this.#internals;
    const now = {
      empty: empty && !this.#captured, complete: complete || Boolean(this.#captured), invalid: wrong && this.#touched, focused: this.#focused,
      captured: Boolean(this.#captured), loading: !this.#usable && this.#fallback.hidden, failed: !this.#fallback.hidden,
    };
    for (const [name, on] of Object.entries(now)) {
      if (on) states.add(name);
      else states.delete(name);
    }
    const settings = this.#settings();
    const text = JSON.stringify(settings);
    if (this.#port && text !== this.#sent) this.#say(TO_FRAME.settings, { settings });
    this.#sent = text;
  }

  /** How the text in the frame looks and is read aloud. */
  #settings() {
    const computed = getComputedStyle(this);
    const style = Object.fromEntries(STYLES.map((name) => [name, computed.getPropertyValue(name)]));
    style['placeholder-color'] = computed.getPropertyValue('--secure-input-placeholder').trim();
    const described = (this.getAttribute('aria-describedby') ?? '').split(/\s+/).filter(Boolean);
    const read = (/** @type {Iterable<Element>} */ from) => Array.from(from, (one) => one.textContent?.trim()).join(' ');
    return {
      style,
      label: this.getAttribute('label') ?? read(/** @type {any} */ (this.labels)),
      description: read(described.flatMap((id) => /** @type {Document} */ (this.getRootNode()).getElementById?.(id) ?? [])),
      placeholder: this.getAttribute('placeholder') ?? '',
      autocomplete: this.getAttribute('autocomplete') ?? '',
      required: this.required,
      disabled: this.matches(':disabled'),
      lang: /** @type {HTMLElement|null} */ (this.closest('[lang]'))?.lang ?? '',
    };
  }

  /** The first submit is held until all fields are captured; then the form is submitted as the person did. @param {SubmitEvent} event @param {HTMLFormElement} form */
  #submit(event, form) {
    const fields = fieldsOf(form);
    const done = (/** @type {SecureInput} */ one) => one.matches(':disabled') || (arrived.has(form) && one.#settled);
    if (event.defaultPrevented || event.target !== form || this.hasAttribute('manual') || fields.every(done)) return;
    event.preventDefault();
    event.stopImmediatePropagation();
    if (submitting.has(form)) return;
    submitting.add(form);
    SecureInput.capture(fields).then(
      () => {
        submitting.delete(form);
        arrived.add(form);
        try { form.requestSubmit(event.submitter); } finally { arrived.delete(form); }
      },
      () => submitting.delete(form), // told by secure-error
    );
  }

  /** @param {SecureInput[]} all */
  static async #captureOpen(all) {
    let list = all;
    if (!list.length) return;
    try {
      await Promise.all(list.map((one) => one.ready));
      list = list.filter((one) => !one.#settled);
      if (!list.length) return;
      const wrong = list.filter((one) => !one.#state.valid);
      for (const one of wrong) one.#touch();
      if (wrong.length) throw wrong.map((one) => one.#error('field', one.#state.code ?? 'invalid'));
      const values = await SecureInput.#post(list).catch(async (error) => {
        const again = error.code === 'conflict';
        // One session for all, if one app is meant.
        if (canRenew(error, list[0]) && list.every(({ app }) => app === list[0].app)) {
          const token = await list[0].#session(true);
          await Promise.all(list.map((one) => one.#use(token)));
        } else if (!again) throw error;
        return SecureInput.#post(list, again);
      });
      list.forEach((one, at) => {
        const { secureValueKey, expiresAt } = values[at];
        one.#keep({ field: one.field, secureValueKey, expiresAt });
        one.#say(TO_FRAME.done, { captured: true });
        one.#show();
      });
    } catch (thrown) {
      const errors = (Array.isArray(thrown) ? thrown : [thrown]).map((error) => list[0].#asError(error));
      for (const one of list) one.#say(TO_FRAME.done, {});
      for (const error of errors) (owners.get(error) ?? list[0]).#tell(error);
      throw errors[0];
    }
  }

  /** Each frame seals its own text; the first posts the sealed bodies. @param {SecureInput[]} list @param {boolean} [again] with new seals @returns {Promise<{secureValueKey: string, expiresAt: string|null}[]>} */
  static async #post(list, again = false) {
    const [first] = list;
    if (list.some((one) => one.app !== first.app || one.#token !== first.#token)) {
      throw first.#error('page', 'mixed_sessions');
    }
    const sealed = await Promise.all(list.map((one) => one.#ask(TO_FRAME.seal, { again })));
    const values = list.map((one, at) => ({ field: one.field, sealed: sealed[at].sealed }));
    return (await first.#ask(TO_FRAME.post, { values })).values;
  }
}

/** Captures all secure fields of a form in one request, all or none. @param {HTMLFormElement|Iterable<SecureInput>} form */
export const capture = (form) => SecureInput.capture(form);

/** @returns {SecureState} */
const loading = () => ({ empty: true, complete: false, valid: false, code: 'loading' });

/** A shop's server may stumble. @param {GetCaptureToken} get @param {string} app @returns {Promise<string>} */
const insist = async (get, app, attempt = 0) => {
  try {
    return await get({ app });
  } catch (error) {
    if (!ATTEMPTS[attempt]) throw error;
    await new Promise((resolve) => setTimeout(resolve, ATTEMPTS[attempt]));
    return insist(get, app, attempt + 1);
  }
};

/** @param {HTMLFormElement} form */
const fieldsOf = (form) => [...form.elements].filter((one) => one instanceof SecureInput);

/** The session has ended or is used up, and there is a way to a new one. @param {SecureInputError} error @param {SecureInput} one */
const canRenew = (error, one) => /^(auth\.|conflict$|mixed_sessions$)/.test(error.code) && Boolean(getCaptureToken || !one.hasAttribute('capture-token'));

/**
 * @template {keyof HTMLElementTagNameMap} T
 * @param {T} tag @param {Record<string, string>} attributes @param {string} [text]
 */
function make(tag, attributes, text = '') {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.textContent = text;
  return element;
}

if (customElements.get('secure-input')) throw new Error('secure-input is defined already: by another version of this file, or by someone who wants what is typed');
customElements.define('secure-input', SecureInput);
