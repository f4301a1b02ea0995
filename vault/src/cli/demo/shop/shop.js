// The demo shop's page: what any shop's page may do with secure fields. It never has a value; its own lists show what it has.

const script = /** @type {HTMLScriptElement} */ (document.getElementById('secure-input-script')).src;
const { SecureInput } = await import(script);
const page = document.body.dataset.page;
const byId = (id) => document.getElementById(id);

const FIELDS = page === 'login' ? ['password'] : ['card-number', 'card-expiry', 'card-cvc'];
const BRANDS = { amex: 'Amex', diners: 'Diners', discover: 'Discover', jcb: 'JCB', maestro: 'Maestro', mastercard: 'Mastercard', unionpay: 'UnionPay', visa: 'Visa' };
const REASONS = {
  frame_unavailable: 'This field could not be loaded. Check the connection and try again.',
  network: 'The vault could not be reached. What you typed is still there: try again.',
  timeout: 'The vault took too long. What you typed is still there: try again.',
  'value.not_found': 'The card data is no longer valid. Enter it again.',
  'destination.timeout': 'The bank did not answer in time. Look at your account before you try again.',
  'destination.failed': 'The bank could not be reached. Try again in a minute.',
  'rate.limited': 'Too many tries. Wait a minute.',
};

SecureInput.configure({
  // Asked when a field is set up, and again when the session has ended.
  getCaptureToken: async () => (await post('/api/capture-session', { fields: FIELDS })).captureToken,
});

/** @param {string} path @param {object} [body] */
async function post(path, body) {
  return answered(await fetch(path, { method: 'POST', headers: { 'content-type': 'application/json' }, body: JSON.stringify(body) }));
}

async function answered(answer) {
  const read = await answer.json().catch(() => ({}));
  if (answer.ok) return read;
  throw Object.assign(new Error('refused'), { code: read.code ?? 'answer' });
}

const reason = (code) => REASONS[code] ?? `That did not work (${code}). Try again.`;

// ---- the three lists -------------------------------------------------------------------------------------------------------

/** A line of a list: a word, then what was seen, keys in monospace and cut in the middle. */
function line(what, it, { code = false, dot = '' } = {}) {
  const item = document.createElement('li');
  const [left, right] = [document.createElement('span'), document.createElement(code ? 'code' : 'span')];
  left.className = 'what';
  left.textContent = what;
  right.className = `it ${dot}`;
  right.textContent = it;
  if (code) right.title = it;
  item.append(left, right);
  return item;
}

const short = (text) => (typeof text === 'string' && text.length > 30 ? `${text.slice(0, 14)}…${text.slice(-6)}` : String(text));

/** Puts lines into a list; the new ones fade in. */
function fill(id, lines) {
  const before = new Set([...byId(id).children].map((item) => item.textContent));
  for (const item of lines) item.classList.toggle('fresh', !before.has(item.textContent));
  byId(id).replaceChildren(...lines);
}

function showPage() {
  const lines = [...document.querySelectorAll('secure-input')].flatMap((one) => {
    const name = one.labels[0].textContent;
    if (one.secureValueKey) return line(name, short(one.secureValueKey), { code: true });
    if (one.empty) return [];
    const words = [one.state.complete ? 'complete' : 'incomplete', one.valid ? 'valid' : 'not valid', BRANDS[one.state.brand]];
    return line(name, words.filter(Boolean).join(', '));
  });
  fill('saw-page', lines);
}

/** What the other two saw of this page's own doing: the lists stay empty until the person acts. */
const started = Date.now();

async function showOthers() {
  const read = async (path) => (await answered(await fetch(path))).data ?? [];
  const [seen, accesses] = await Promise.all([read('/api/seen'), read('/api/accesses')]).catch(() => [[], []]);
  const since = ({ time }) => Date.parse(time) >= started;
  const last = seen.filter(since).find(({ route }) => route !== '/api/capture-session');
  const got = Object.entries(last?.body ?? {});
  fill('saw-shop', got.map(([name, value]) => line(name, short(value), { code: true })));
  fill('saw-vault', accesses.filter((entry) => since(entry) && entry.action !== 'log.read').slice(0, 8).map((entry) => {
    const use = [entry.field, entry.flow?.name && `by ${entry.flow.name}`, entry.purpose && `for ${entry.purpose}`].filter(Boolean).join(' ');
    return line(entry.action, `${use}: ${entry.outcome}`, { dot: entry.outcome === 'allowed' ? 'dot' : 'dot no' });
  }));
}

// ---- problems at the field and above the form --------------------------------------------------------------------------------

/** @param {HTMLElement} field @param {string} words */
function problemAt(field, words) {
  const place = byId(`${field.id}-problem`);
  place.textContent = words;
  place.hidden = !words;
  if (field.localName === 'input') field.setAttribute('aria-invalid', String(Boolean(words)));
}

/** The list above the form; the first field with a problem gets the focus. @param {[HTMLElement|null, string][]} problems */
function summary(problems) {
  const box = byId('summary');
  if (!box) return;
  box.hidden = problems.length === 0;
  box.querySelector('ul').replaceChildren(...problems.map(([field, words]) => {
    const item = document.createElement('li');
    const link = document.createElement(field ? 'a' : 'span');
    link.textContent = words;
    if (field) {
      link.href = `#${field.id}`;
      link.addEventListener('click', (event) => { event.preventDefault(); field.focus(); });
    }
    item.append(link);
    return item;
  }));
  problems[0]?.[0]?.focus();
}

document.addEventListener('secure-change', ({ target }) => {
  showPage();
  // A problem that is mended goes away at once; a new one waits until the person leaves the field.
  if (target.valid) problemAt(target, '');
});
document.addEventListener('secure-ready', showPage);
document.addEventListener('secure-blur', ({ target }) => {
  if (!target.empty && !target.valid) problemAt(target, target.validationMessage);
});
document.addEventListener('secure-error', ({ target, who, code }) => {
  problemAt(target, who === 'field' ? target.validationMessage : reason(code));
});

const busy = (button, on) => button.setAttribute('aria-busy', String(on));

function showResult(form, title, text, facts) {
  byId('result-title').textContent = title;
  byId('result-text').textContent = text;
  byId('result-facts').replaceChildren(...facts.flatMap(([name, value]) => {
    const [term, word, code] = ['dt', 'dd', 'code'].map((tag) => document.createElement(tag));
    term.textContent = name;
    code.textContent = value;
    word.append(code);
    return [term, word];
  }));
  form.hidden = true;
  byId('result').hidden = false;
  byId('result-title').focus();
}

byId('again').addEventListener('click', () => {
  const form = document.querySelector('form');
  form.reset();
  form.hidden = false;
  byId('result').hidden = true;
  form.querySelector('secure-input').focus();
  showPage();
});

// ---- checkout: the page calls capture(form) itself, to show its own errors first ---------------------------------------------

const dollars = (cents) => `$${(cents / 100).toFixed(2)}`;

function amountInCents() {
  const text = byId('amount').value.trim().replace(/^\$/, '');
  const cents = /^\d{1,6}(\.\d{1,2})?$/.test(text) ? Math.round(Number(text) * 100) : 0;
  return cents > 0 ? cents : null;
}

let order = `order-${crypto.randomUUID().slice(0, 8)}`;

async function pay(form) {
  const cents = amountInCents();
  problemAt(byId('amount'), cents ? '' : 'Enter an amount over zero, like 42.00');
  const secure = [...form.querySelectorAll('secure-input')];
  for (const one of secure) {
    one.checkValidity();
    problemAt(one, one.validationMessage);
  }
  const fields = [byId('amount'), ...secure];
  const problems = fields.map((one) => [one, byId(`${one.id}-problem`).textContent]).filter(([, words]) => words);
  summary(problems);
  if (problems.length) return;
  await SecureInput.capture(form);
  showPage();
  const { card, expiry, cvc } = Object.fromEntries(new FormData(form));
  const { outputs, runId } = await post('/api/charge', { card, expiry, cvc, amount: cents, order });
  order = `order-${crypto.randomUUID().slice(0, 8)}`;
  if (outputs.status === 'approved') {
    const facts = [['Charge', outputs.charge], ['Run', runId]];
    return showResult(form, 'Paid', `${dollars(cents)} from the card that ends in ${outputs.last4}.`, facts);
  }
  for (const one of secure) one.clear();
  summary([[byId('card'), `The bank declined the card that ends in ${outputs.last4}. Nothing was charged. Use another card.`]]);
}

byId('checkout')?.addEventListener('submit', async (event) => {
  event.preventDefault();
  const form = event.currentTarget;
  const button = form.querySelector('.action');
  if (button.ariaBusy === 'true') return;
  busy(button, true);
  try {
    await pay(form);
  } catch (error) {
    // Keys that were handed over may be spent: the card is asked for again.
    if (error.name !== 'SecureInputError') for (const one of form.querySelectorAll('secure-input')) one.clear();
    summary([[error.field ? form.querySelector(`[field="${error.field}"]`) : byId('card'), reason(error.code)]]);
  } finally {
    busy(button, false);
    await showOthers();
  }
});

byId('amount')?.addEventListener('input', () => {
  const cents = amountInCents();
  byId('pay-amount').textContent = cents ? dollars(cents) : '';
  if (cents) problemAt(byId('amount'), '');
});

// ---- sign in: a plain form. The element captures on submit; this sees the form when the key is in it --------------------------

byId('login')?.addEventListener('submit', async (event) => {
  event.preventDefault();
  const form = event.currentTarget;
  const button = form.querySelector('.action');
  if (button.ariaBusy === 'true') return;
  busy(button, true);
  showPage();
  const { user, password } = Object.fromEntries(new FormData(form));
  try {
    const { outputs, runId } = await post('/api/login', { user, password });
    if (outputs.verified) showResult(form, `Welcome, ${user}`, 'The vault compared the password with the shop’s hash and said yes.', [['Run', runId]]);
    else throw Object.assign(new Error('refused'), { code: 'wrong' });
  } catch (error) {
    byId('password').clear();
    problemAt(byId('password'), error.code === 'wrong' ? 'Name or password is wrong. Try again.' : reason(error.code));
    byId('password').focus();
  } finally {
    busy(button, false);
    await showOthers();
  }
});

showPage();
