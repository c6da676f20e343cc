/**
 * What the server counts, as Prometheus reads it.
 *
 * Source: prometheus.io/docs/instrumenting/exposition_formats, "Text-based format", version 0.0.4. Times are in seconds.
 */

/** Numbers of now, which are asked for when somebody looks. */
export interface Gauges {
  /** Pictures that were taken in whole and are not answered. */
  readonly queue: number;
  readonly uploads: number;
  /** Of uploads and of pictures in the queue. */
  readonly heldBytes: number;
}

export class Metrics {
  readonly #requests = new Map<string, number>();
  readonly #batches = new Histogram([1, 2, 4, 8, 16, 32, 64, 128, 256]);
  readonly #seconds = new Histogram([0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30]);
  #pictures = 0;
  #dropped = 0;

  /** A request has ended; `route` is one of ours or "other", `status` HTTP's or "aborted". */
  request(route: string, status: number | "aborted"): void {
    const labels = `route="${route}",status="${status}"`;
    this.#requests.set(labels, (this.#requests.get(labels) ?? 0) + 1);
  }

  /** A picture was answered, so long after its request's headers came. */
  picture(seconds: number): void {
    this.#pictures++;
    this.#seconds.observe(seconds);
  }

  batch(pictures: number): void {
    this.#batches.observe(pictures);
  }

  /** A connection was turned away, for there are too many. */
  dropped(): void {
    this.#dropped++;
  }

  text({ queue, uploads, heldBytes }: Gauges): string {
    const requests = [...this.#requests].map(
      ([labels, count]) => `riffle_requests_total{${labels}} ${count}`,
    );
    return [
      ...family(
        "riffle_requests_total",
        "counter",
        "Requests that have ended, by route and status.",
        requests,
      ),
      ...single("riffle_pictures_total", "counter", "Pictures that were classified.", this.#pictures),
      ...single(
        "riffle_connections_dropped_total",
        "counter",
        "Connections turned away at the limit.",
        this.#dropped,
      ),
      ...single("riffle_queue_length", "gauge", "Pictures taken in whole and not answered yet.", queue),
      ...single("riffle_uploads", "gauge", "Requests whose body is being read.", uploads),
      ...single("riffle_held_bytes", "gauge", "Bytes of bodies in memory.", heldBytes),
      ...single(
        "process_resident_memory_bytes",
        "gauge",
        "Resident memory of the process.",
        process.memoryUsage.rss(),
      ),
      ...family(
        "riffle_batch_size",
        "histogram",
        "Pictures in a batch.",
        this.#batches.lines("riffle_batch_size"),
      ),
      ...family(
        "riffle_request_duration_seconds",
        "histogram",
        "From a request's headers to the answer, of pictures that were classified.",
        this.#seconds.lines("riffle_request_duration_seconds"),
      ),
      "",
    ].join("\n");
  }
}

class Histogram {
  readonly #counts: number[];
  #sum = 0;
  #count = 0;

  constructor(private readonly bounds: readonly number[]) {
    this.#counts = bounds.map(() => 0);
  }

  observe(value: number): void {
    this.#sum += value;
    this.#count++;
    // Buckets are cumulative.
    this.bounds.forEach((bound, i) => {
      if (value <= bound) this.#counts[i] = (this.#counts[i] as number) + 1;
    });
  }

  lines(name: string): string[] {
    return [
      ...this.bounds.map((bound, i) => `${name}_bucket{le="${bound}"} ${this.#counts[i]}`),
      `${name}_bucket{le="+Inf"} ${this.#count}`,
      `${name}_sum ${this.#sum}`,
      `${name}_count ${this.#count}`,
    ];
  }
}

type Kind = "counter" | "gauge" | "histogram";

function family(name: string, kind: Kind, help: string, samples: readonly string[]): string[] {
  return [`# HELP ${name} ${help}`, `# TYPE ${name} ${kind}`, ...samples];
}

function single(name: string, kind: Kind, help: string, value: number): string[] {
  return family(name, kind, help, [`${name} ${value}`]);
}
