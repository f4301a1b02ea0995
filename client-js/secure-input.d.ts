/** What the page may know of a field while it is typed in. */
export interface SecureState {
  readonly empty: boolean;
  /** Long enough to be one of its kind. */
  readonly complete: boolean;
  readonly valid: boolean;
  /** Why it is not valid: `empty too_short too_long characters checksum expired`, or `loading` and the like before it can be used. */
  readonly code: string | null;
  /** The brand of a card number, where the app's document says `show_brand`. */
  readonly brand?: string;
}

export interface SecureValue {
  readonly secureValueKey: string;
  /** RFC 3339; null for a value that is kept until it is deleted. */
  readonly expiresAt: string | null;
}

/** One of several, so it says which. */
export interface CapturedValue extends SecureValue {
  readonly field: string;
}

export interface SecureInputOptions {
  /** Asked when a field is set up without a `capture-token`, and again when the session has ended. */
  getCaptureToken?: (wanted: { app: string }) => string | Promise<string>;
}

export class SecureInputError extends Error {
  /** `field` (what was typed), `frame` (loading), `vault` (its answer), `page` (how it is embedded). */
  readonly who: string;
  /** A stable code: of the field, of the frame, or of the vault's problem document. */
  readonly code: string;
  readonly retryable: boolean;
  /** The field's name in the app. */
  readonly field: string;
}

export class SecureReadyEvent extends Event {}
export class SecureFocusEvent extends Event {}
export class SecureBlurEvent extends Event {}
/** Cancelable: prevent it, and the form is not submitted. */
export class SecureEnterEvent extends Event {}
export class SecureChangeEvent extends Event {
  readonly state: SecureState;
}
export class SecureErrorEvent extends Event {
  readonly error: SecureInputError;
  readonly who: string;
  readonly code: string;
  readonly retryable: boolean;
}

export class SecureInput extends HTMLElement {
  static readonly formAssociated: true;
  static configure(options: SecureInputOptions): void;
  static capture(from: HTMLFormElement | Iterable<SecureInput>): Promise<{ values: CapturedValue[] }>;
  readonly app: string;
  readonly field: string;
  readonly name: string;
  readonly required: boolean;
  readonly form: HTMLFormElement | null;
  readonly labels: NodeList;
  readonly validity: ValidityState;
  readonly validationMessage: string;
  /** Settles when the field can be typed in, or when it cannot be loaded. */
  readonly ready: Promise<void>;
  readonly state: SecureState;
  readonly empty: boolean;
  readonly valid: boolean;
  readonly secureValueKey: string | null;
  capture(): Promise<SecureValue>;
  clear(): void;
  checkValidity(): boolean;
  reportValidity(): boolean;
}

/** Captures all secure fields of a form in one request: all or none. */
export function capture(form: HTMLFormElement | Iterable<SecureInput>): Promise<{ values: CapturedValue[] }>;

declare global {
  interface HTMLElementTagNameMap {
    'secure-input': SecureInput;
  }
  interface HTMLElementEventMap {
    'secure-ready': SecureReadyEvent;
    'secure-change': SecureChangeEvent;
    'secure-focus': SecureFocusEvent;
    'secure-blur': SecureBlurEvent;
    'secure-enter': SecureEnterEvent;
    'secure-error': SecureErrorEvent;
  }
}
