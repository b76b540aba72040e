// One browser, one session: tells the other tabs whom this page is for, and hears it of theirs.

/** Whom this page was made for; nobody, where it asks who you are. */
const owner = document.querySelector('[data-owner]')?.getAttribute('data-owner') ?? '';
const tabs = new BroadcastChannel('session');
tabs.postMessage(owner);

/** @param {(other: string) => void} told Another tab shows another person's page; or, for '', nobody's. */
export function onChange(told) {
  tabs.addEventListener('message', ({ data }) => {
    if (data !== owner) told(data);
  });
}
