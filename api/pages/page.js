"use strict";
// The page better: it follows the order by server-sent events, and copies the tracking number. The server renders
// everything; on news the page is asked for again, and its <main> put in place of the old one.
(() => {
  const root = document.documentElement, news = document.getElementById("news");
  const PAUSE = 5000, LONGEST = 300000, PATIENCE = 10000;
  let source, timer, doubt, known, pause = PAUSE, asking = false, missed = false;
  const main = () => document.querySelector("main");

  const listen = () => {
    clearTimeout(timer);
    source?.close();
    const events = main().dataset.events;
    if (!events || document.hidden) return;
    source = new EventSource(events);
    source.onopen = () => { clearTimeout(doubt); root.dataset.live = "on"; pause = PAUSE; };
    source.onerror = () => {
      clearTimeout(doubt);
      doubt = setTimeout(() => { root.dataset.live = "off"; }, PATIENCE);
      if (source.readyState === EventSource.CLOSED) later();
    };
    source.onmessage = event => {
      if (event.lastEventId === main().dataset.version || event.lastEventId === known) return;
      known = event.lastEventId;
      look();
    };
  };

  const later = () => {
    clearTimeout(timer);
    timer = setTimeout(look, pause);
    pause = Math.min(pause * 2, LONGEST);
  };

  const look = () => {
    const form = document.getElementById("again");
    missed = asking;
    if (asking || !form) return;
    asking = true;
    const values = new URLSearchParams(new FormData(form)), posts = form.method === "post";
    const request = new XMLHttpRequest();
    request.open(form.method, posts ? form.action : `${form.action}?${values}`);
    request.responseType = "document";
    request.onloadend = () => {
      asking = false;
      const fresh = request.response?.querySelector("main");
      if (fresh && request.status && request.status < 429) show(request.response, fresh);
      else { root.dataset.live = "off"; later(); }
      if (missed) look();
    };
    request.send(posts ? values : null);
  };

  const show = (page, fresh) => {
    const isNews = fresh.dataset.version !== main().dataset.version, focused = document.activeElement?.id;
    const swap = () => {
      main().replaceWith(document.adoptNode(fresh));
      document.title = page.title;
      ready();
      if (focused) document.getElementById(focused)?.focus();
      if (isNews) news.textContent = fresh.dataset.news ?? page.title;
    };
    const moves = isNews && document.startViewTransition && matchMedia("(prefers-reduced-motion:no-preference)").matches;
    if (moves) document.startViewTransition(swap); else swap();
  };

  const ready = () => {
    const copy = document.getElementById("copy");
    if (copy && navigator.clipboard) copy.hidden = false;
    if (!source || source.readyState === EventSource.CLOSED) listen();
  };

  document.addEventListener("click", async event => {
    const copy = event.target.closest("#copy");
    if (!copy) return;
    await navigator.clipboard.writeText(copy.dataset.copy);
    news.textContent = copy.textContent = copy.dataset.copied;
  });
  document.addEventListener("submit", event => {
    if (event.target.id !== "again") return;
    event.preventDefault();
    look();
  });
  document.addEventListener("visibilitychange", () => {
    if (document.hidden) source?.close();
    else if (main()) listen();
  });
  if (main()) ready();
})();
