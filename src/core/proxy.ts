/**
 * Which proxy an address is reached through, by the variables that curl and most other programs obey.
 *
 *     HTTPS_PROXY, HTTP_PROXY    by the address's scheme, else ALL_PROXY: http://user:password@host:port
 *     NO_PROXY                   hosts reached directly, with commas between: example.com (and all below it),
 *                                .example.com, *.example.com, 10.0.0.1, host:8080, or * for all
 *
 * Lower case counts before upper case. Source: curl(1), "Environment".
 */

import { environment } from "./environment.js";
import { UsageError } from "./error.js";

/** @throws UsageError for a proxy that is neither http nor https, such as SOCKS */
export function proxyFor(address: string): URL | undefined {
  const url = new URL(address);
  const given =
    (url.protocol === "https:"
      ? (environment("https_proxy") ?? environment("HTTPS_PROXY"))
      : (environment("http_proxy") ?? environment("HTTP_PROXY"))) ||
    (environment("all_proxy") ?? environment("ALL_PROXY"));
  if (!given || isDirect(url, environment("no_proxy") ?? environment("NO_PROXY") ?? "")) return undefined;
  const written = given.includes("://") ? given : `http://${given}`;
  if (URL.canParse(written)) {
    const proxy = new URL(written);
    if (["http:", "https:"].includes(proxy.protocol)) return proxy;
  }
  throw new UsageError({
    what: "the proxy of the environment is of no kind that is used",
    where: "variables HTTPS_PROXY, HTTP_PROXY and ALL_PROXY",
    expected: "http://HOST:PORT",
    found: withoutPassword(written),
    safe: "Nothing was fetched",
    hint: `Set another proxy, or NO_PROXY=${url.hostname} to do without one`,
  });
}

/** For messages: who uses a proxy is nobody else's business. */
export function withoutPassword(address: string): string {
  return address.replace(/\/\/[^/@]*@/, "//");
}

function isDirect({ hostname, port, protocol }: URL, list: string): boolean {
  const host = hostname.toLowerCase();
  const ownPort = port === "" ? (protocol === "https:" ? "443" : "80") : port;
  return list.split(/[\s,]+/).some((entry) => {
    if (entry === "*") return true;
    const [, name = entry, only] = /^(.+?):(\d+)$/.exec(entry) ?? [];
    const plain = name.toLowerCase().replace(/^\*?\./, "");
    if (plain === "" || (only !== undefined && only !== ownPort)) return false;
    return host === plain || host.endsWith(`.${plain}`);
  });
}
