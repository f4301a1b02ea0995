// Compiled, never run: what secure-input.d.ts promises is what page/secure-input.js has, and a page can be written against it.
import type * as Declared from '../secure-input.js';
import type * as Written from '../page/secure-input.js';

type Public = keyof typeof Declared;
type Missing = Exclude<Public, keyof typeof Written>;
export const nothingIsMissing: [Missing] extends [never] ? true : Missing = true;
type MissingMember = Exclude<keyof Declared.SecureInput, keyof Written.SecureInput>;
export const noMemberIsMissing: [MissingMember] extends [never] ? true : MissingMember = true;

/** One field's capture says nothing but the key and its end. */
type Members<T> = T extends Promise<infer V> ? keyof V : never;
export const keyAndEnd: Members<ReturnType<Declared.SecureInput['capture']>> extends 'secureValueKey' | 'expiresAt' ? true : never = true;
export const writtenSo: Members<ReturnType<Written.SecureInput['capture']>> extends 'secureValueKey' | 'expiresAt' ? true : never = true;

export async function page(field: Declared.SecureInput, form: HTMLFormElement, client: typeof Declared): Promise<string> {
  client.SecureInput.configure({ getCaptureToken: async ({ app }) => `siv_cap_${app}` });
  field.addEventListener('secure-change', (event) => event.state.brand ?? event.state.code);
  field.addEventListener('secure-error', (event) => event.retryable && event.error.field);
  const { values } = await client.capture(form);
  return values[0]?.secureValueKey ?? (await field.capture()).expiresAt ?? '';
}
