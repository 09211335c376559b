// The newest figures, pushed. A socket where that works, server-sent events where it does not; after a break it tries again, at first
// soon, then with growing pauses. Says how it stands, so that nobody takes old figures for new ones.

const PAUSE_FIRST = 500;
const PAUSE_LAST = 15_000;
/** Without a frame for so long, the figures are old. */
const STALE = 5_000;
/** So many sockets in a row without a frame, and it is the socket that does not work here. */
const SOCKETS_TRIED = 2;

export class Live {
  #listeners = new Set();
  #source = null;
  #pause = PAUSE_FIRST;
  #failures = 0;
  #timer = 0;
  #watch = 0;
  #heard = 0;
  frame = null;
  state = "connecting";

  /** Calls with every frame and every change of state; gives a function that ends it. The first listener connects, the last one leaves. */
  listen(listener) {
    this.#listeners.add(listener);
    if (this.#listeners.size === 1) this.#open();
    else listener(this);
    return () => {
      this.#listeners.delete(listener);
      if (!this.#listeners.size) this.#close();
    };
  }

  #tell(state) {
    this.state = state;
    for (const listener of this.#listeners) listener(this);
  }

  #open() {
    clearTimeout(this.#timer);
    clearInterval(this.#watch);
    this.#heard = Date.now();
    this.#watch = setInterval(() => {
      if (this.state === "live" && Date.now() - this.#heard > STALE) this.#tell("stale");
    }, 1_000);
    if (this.#failures >= SOCKETS_TRIED && "EventSource" in window) this.#stream();
    else this.#socket();
  }

  #socket() {
    const socket = new WebSocket(`${location.protocol === "https:" ? "wss" : "ws"}://${location.host}/v1/live`);
    this.#source = socket;
    socket.onmessage = (event) => this.#take(event.data);
    socket.onclose = () => this.#again(socket);
  }

  #stream() {
    const stream = new EventSource("/v1/live/events");
    this.#source = stream;
    stream.onmessage = (event) => this.#take(event.data);
    stream.onerror = () => this.#again(stream);
  }

  #take(text) {
    this.frame = JSON.parse(text);
    this.#heard = Date.now();
    this.#pause = PAUSE_FIRST;
    this.#failures = 0;
    this.#tell("live");
  }

  #again(source) {
    if (this.#source !== source) return;
    source.close();
    this.#source = null;
    this.#failures += 1;
    this.#tell("reconnecting");
    // Not all at the same moment, when a server comes back.
    const wait = this.#pause * (0.75 + Math.random() / 2);
    this.#pause = Math.min(this.#pause * 2, PAUSE_LAST);
    this.#timer = setTimeout(() => this.#open(), wait);
  }

  #close() {
    clearTimeout(this.#timer);
    clearInterval(this.#watch);
    const source = this.#source;
    this.#source = null;
    if (source) source.close();
    this.state = "connecting";
  }
}

export const live = new Live();
