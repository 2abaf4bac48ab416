// What the server is asked, and what it tells. All addresses are relative: the page may be anywhere.

// Asks for data; a refusal is an Error with the server's own words.
export async function ask(path, given = {}) {
  const query = new URLSearchParams(given).toString();
  return answer(await fetch(query ? `${path}?${query}` : path, { headers: { Accept: "application/json" } }));
}

// Has something done; returns what was.
export async function act(message) {
  const response = await fetch("api/do", {
    method: "POST",
    headers: { "Content-Type": "application/json", Accept: "application/json" },
    body: JSON.stringify(message),
  });
  return (await answer(response)).done;
}

async function answer(response) {
  const data = await response.json().catch(() => ({ error: `the server answered ${response.status}` }));
  if (!response.ok) throw new Error(data.error);
  return data;
}

// All that the server tells, put together.
export class Live {
  constructor(onNews) {
    this.onNews = onNews;
    this.filter = {};
    this.state = { points: [] };
    this.open();
  }

  open() {
    this.source?.close();
    this.fresh = true;
    this.source = new EventSource(`api/live?${new URLSearchParams(this.filter)}`);
    this.source.onmessage = (event) => this.take(JSON.parse(event.data));
    this.source.onerror = () => {
      this.fresh = true; // what comes next is all there is, not what is new
      this.onNews(this.state, ["gone"]);
      if (this.source.readyState === EventSource.CLOSED) setTimeout(() => this.open(), 2000);
    };
  }

  show(filter) {
    this.filter = filter;
    delete this.state.tasks;
    this.open();
  }

  take(news) {
    if (this.fresh) {
      this.state = { points: [] };
      this.fresh = false;
    }
    const state = this.state;
    state.silent_s = news.silent_s ?? 0;
    for (const [name, value] of Object.entries(news)) {
      if (name === "points") state.points = [...state.points, ...value].slice(-300);
      else if (value && value.rows) state[name] = merged(state[name], value);
      else state[name] = value;
    }
    this.onNews(state, Object.keys(news));
  }
}

function merged(old, news) {
  const order = news.order ?? old.order;
  const rows = Object.fromEntries(order.map((key) => [key, news.rows[key] ?? old.rows[key]]));
  return { order, rows };
}
