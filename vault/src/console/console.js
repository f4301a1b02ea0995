// Comforts only: the console works without this file. Times in the reader's zone, UTC on hover; `/`, `j`, `k`, enter.

for (const time of document.querySelectorAll('time[datetime]')) {
  const at = new Date(time.getAttribute('datetime') ?? '');
  if (!Number.isNaN(at.getTime())) {
    const year = at.getFullYear() === new Date().getFullYear() ? undefined : 'numeric';
    const clock = /** @type {const} */ ({ hour: '2-digit', minute: '2-digit', second: '2-digit', hourCycle: 'h23' });
    const long = /** @type {const} */ ({ year: 'numeric', month: 'long', day: 'numeric', ...clock, fractionalSecondDigits: 3, timeZoneName: 'short' });
    const short = /** @type {const} */ ({ year, month: 'short', day: '2-digit', ...clock });
    time.textContent = at.toLocaleString(undefined, time.classList.contains('short') ? short : long);
  }
}

const rows = [...document.querySelectorAll('a.row')];

document.addEventListener('keydown', (event) => {
  const typing = event.target instanceof HTMLInputElement || event.target instanceof HTMLSelectElement;
  if (typing || event.ctrlKey || event.metaKey || event.altKey) {
    return;
  }
  if (event.key === '/') {
    const search = document.querySelector('.filters input');
    if (search instanceof HTMLInputElement) {
      event.preventDefault();
      search.focus();
    }
    return;
  }
  const step = { j: 1, k: -1 }[event.key];
  if (step !== undefined && rows.length > 0) {
    const at = rows.indexOf(/** @type {HTMLAnchorElement} */ (document.activeElement));
    const next = rows[Math.min(Math.max(at + step, 0), rows.length - 1)];
    if (next instanceof HTMLElement) {
      next.focus();
    }
  }
});
