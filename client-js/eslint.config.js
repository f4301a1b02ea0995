// Rules that find mistakes; how it looks is up to the reader.
const readonly = (names) => Object.fromEntries(names.map((name) => [name, 'readonly']));

export default [
  { ignores: ['**/node_modules/'] },
  {
    files: ['**/*.js'],
    languageOptions: { ecmaVersion: 2024, sourceType: 'module' },
    linterOptions: { reportUnusedDisableDirectives: 'error' },
    rules: {
      'consistent-return': 'off', 'default-case-last': 'error', eqeqeq: 'error', 'no-alert': 'error', 'no-console': 'error', 'no-constant-condition': 'error',
      'no-control-regex': 'error', 'no-dupe-keys': 'error', 'no-eval': 'error', 'no-implied-eval': 'error', 'no-new-func': 'error', 'no-param-reassign': 'error',
      'no-script-url': 'error', 'no-shadow': 'error', 'no-throw-literal': 'off', 'no-undef': 'error', 'no-unreachable': 'error', 'no-unused-vars': 'error',
      'no-use-before-define': 'off', 'no-var': 'error', 'object-shorthand': 'error', 'prefer-const': 'error', 'prefer-template': 'error',
      // Every place a string becomes code or markup is closed, as Trusted Types close it in the browser.
      'no-restricted-properties': ['error', ...['innerHTML', 'outerHTML', 'insertAdjacentHTML', 'write', 'writeln'].map((property) => ({ property }))],
    },
  },
  {
    files: ['client-js/{page,frame,shared}/**', 'vault/src/**'],
    languageOptions: {
      globals: readonly([
        'AbortController', 'AbortSignal', 'CSS', 'CSSStyleSheet', 'DataView', 'Event', 'HTMLElement', 'HTMLFormElement', 'MessageChannel', 'ResizeObserver',
        'TextEncoder', 'URL', 'addEventListener', 'atob', 'btoa', 'clearTimeout', 'crypto', 'customElements', 'document', 'fetch', 'getComputedStyle', 'matchMedia',
        'parent', 'setTimeout', 'window',
      ]),
    },
  },
  {
    files: ['vault/src/**'],
    languageOptions: { globals: readonly(['FormData', 'HTMLInputElement', 'HTMLSelectElement']) },
  },
  {
    // Half of these files runs in Node and half in the page, and they look through the page with everything it has.
    files: ['tests/browser/**'],
    rules: { 'no-undef': 'off', 'no-restricted-properties': 'off', 'no-console': 'off' },
  },
  {
    files: ['client-js/tests/**', 'client-js/eslint.config.js'],
    languageOptions: { globals: readonly(['Buffer', 'URL', 'console', 'crypto', 'process', 'TextEncoder']) },
    rules: { 'no-console': 'off' },
  },
];
