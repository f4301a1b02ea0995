// The input itself: what may be typed, how it looks, what the page is told of it. Knows nothing of keys and requests.

import { BRANDS, brand } from './cards.js';
import { TYPES, mayType, read } from './fields.js';
import { dress } from './style.js';
import { CAPTURED, problem } from './texts.js';

/** @typedef {{empty: boolean, complete: boolean, valid: boolean, code: string|null, brand?: string}} State */

const DOTS = '••••••••';
/** What a page may choose of a browser's filling in. */
const FILLS = ['off', 'current-password', 'new-password', 'one-time-code'];

export class Field {
  /** @type {import('./fields.js').FieldSpec|null} */
  #spec = null;
  /** @type {Record<string, any>} */
  #settings = {};
  #composing = false;
  #touched = false;
  #captured = false;
  /** @type {State|null} */
  #told = null;

  /**
   * @param {HTMLInputElement} input
   * @param {{state: (state: State, message: string, edited: boolean) => void, focus: () => void, blur: () => void, enter: () => void}} tell
   */
  constructor(input, tell) {
    this.input = input;
    this.tell = tell;
    const on = (/** @type {string} */ type, /** @type {(event: any) => void} */ run) => input.addEventListener(type, run);
    on('beforeinput', (event) => this.#guard(event));
    on('input', () => this.#typed());
    on('change', () => this.#typed());
    on('compositionstart', () => { this.#composing = true; });
    on('compositionend', () => { this.#composing = false; this.#typed(); });
    on('keydown', (event) => { if (event.key === 'Enter' && !event.isComposing) this.tell.enter(); });
    on('focus', () => this.tell.focus());
    on('blur', () => this.tell.blur());
    // What is in the field leaves it sealed or not at all.
    for (const type of ['copy', 'cut', 'dragstart']) on(type, (event) => event.preventDefault());
  }

  /** The text in its one spelling, or why it is none. */
  get reading() {
    return this.#spec ? read(this.#spec, this.input.value) : { code: 'empty', text: '' };
  }

  /** The rules came from the vault. @param {import('./fields.js').FieldSpec} spec */
  follow(spec) {
    this.#spec = spec;
    const rules = TYPES[spec.type] ?? TYPES.text;
    this.input.type = rules.hidden ? 'password' : 'text';
    this.input.inputMode = rules.inputmode;
    this.input.name = spec.type;
    this.set({});
    this.#report(false);
  }

  /** Wishes of the page: words, look, whether it must be filled in. @param {Record<string, any>} wishes */
  set(wishes) {
    const settings = Object.assign(this.#settings, wishes);
    const { input } = this;
    const text = (/** @type {unknown} */ value) => (typeof value === 'string' ? value.slice(0, 300) : '');
    const rules = TYPES[this.#spec?.type ?? 'text'] ?? TYPES.text;
    // Cards and numbers of persons are always named as what they are: no page has them filled in as something else.
    const free = !rules.autocomplete.startsWith('cc-') && this.#spec?.type !== 'ssn';
    input.autocomplete = /** @type {AutoFill} */ (free && FILLS.includes(settings.autocomplete) ? settings.autocomplete : rules.autocomplete);
    input.disabled = !this.#spec || settings.disabled === true;
    input.ariaRequired = String(settings.required === true);
    input.lang = text(settings.lang);
    unseen('label').textContent = text(settings.label) || 'Secure field';
    dress(input, settings.style);
    this.#words();
    if (this.#spec && 'required' in wishes) this.#report(false);
  }

  /** Shows what is wrong, from now on. */
  touch() {
    this.#touched = true;
    this.#words();
  }

  /** While a text is on its way it stays as it is. @param {boolean} on */
  lock(on) {
    this.input.readOnly = on;
  }

  /** Forgets the text. @param {boolean} captured the vault has it */
  wipe(captured) {
    this.input.value = '';
    this.#captured = captured;
    this.#touched = false;
    this.lock(false);
    if (captured) this.#words();
    else this.#report(false);
  }

  /** Typing only adds what the type can hold; what is pasted or filled in stays and is judged. @param {InputEvent} event */
  #guard(event) {
    if (event.inputType !== 'insertText' || event.isComposing || !event.data || !this.#spec) return;
    const { value, selectionStart, selectionEnd } = this.input;
    const kept = value.slice(0, selectionStart ?? 0) + value.slice(selectionEnd ?? 0);
    if (!mayType(this.#spec.type, kept, event.data)) event.preventDefault();
  }

  #typed() {
    if (this.#composing || !this.#spec) return;
    this.#mask();
    this.flush();
  }

  /** Tells what stands in the input and was not told: it may still be composed, or have come without an event. */
  flush() {
    const edited = this.#captured && this.input.value !== '';
    if (edited) this.#captured = false;
    if (!this.#captured) this.#report(edited);
  }

  /** Groups what was typed and leaves the cursor behind the same character. */
  #mask() {
    const mask = TYPES[this.#spec?.type ?? '']?.mask;
    const { value } = this.input;
    const shown = mask ? mask(value) : value;
    if (shown === value) return;
    const count = (/** @type {string} */ text) => text.replace(/[ /-]/g, '').length;
    const atEnd = this.input.selectionStart === value.length;
    const before = count(value.slice(0, this.input.selectionStart ?? value.length));
    this.input.value = shown;
    let at = atEnd ? shown.length : 0;
    while (!atEnd && count(shown.slice(0, at)) < before) at += 1;
    this.input.setSelectionRange(at, at);
  }

  /** Tells the page, and only when something it may know has changed. @param {boolean} edited */
  #report(edited) {
    const spec = this.#spec;
    if (!spec) return;
    let { code } = this.reading;
    const empty = code === 'empty';
    if (empty && !this.#settings.required) code = null;
    /** @type {State} */
    const state = { empty, complete: !empty && code !== 'too_short', valid: code === null, code };
    const name = spec.type === 'card-number' ? brand(this.input.value.replace(/[ -]/g, '')) : 'unknown';
    if (spec.showBrand && name !== 'unknown') state.brand = name;
    unseen('brand').textContent = BRANDS[name] ?? '';
    unseen('brand').hidden = name === 'unknown';
    this.#words();
    if (!edited && JSON.stringify(state) === JSON.stringify(this.#told)) return;
    this.#told = state;
    this.tell.state(state, code ? problem(spec, code) : '', edited);
  }

  #words() {
    const { required, placeholder, description } = this.#settings;
    const { code } = this.reading;
    const wrong = !this.#captured && this.#touched && code && (code !== 'empty' || required);
    const text = (/** @type {unknown} */ value) => (typeof value === 'string' ? value.slice(0, 300) : '');
    this.input.placeholder = this.#captured ? DOTS : text(placeholder);
    this.input.ariaInvalid = String(Boolean(wrong));
    unseen('hint').textContent = this.#captured ? CAPTURED : text(description);
    const words = wrong && this.#spec ? problem(this.#spec, code) : '';
    if (unseen('problem').textContent !== words) unseen('problem').textContent = words;
  }
}

/** @param {string} id */
const unseen = (id) => /** @type {HTMLElement} */ (document.getElementById(id));
