/** Names and addresses of machines: what may be one, since it is written into other programs' files, and which is this one. */

import { isIP } from "node:net";
import { hostname, networkInterfaces } from "node:os";

/** A host name (underscores too, as clusters use them) or an IP address. */
export function isHost(text: string): boolean {
  return (
    isIP(text) !== 0 || (text.length <= 253 && /^[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?$/.test(text))
  );
}

/** What a machine is called and where it is reached. */
export interface Machine {
  readonly name: string;
  readonly addresses: readonly string[];
}

export function thisMachine(): Machine {
  const addresses = Object.values(networkInterfaces()).flatMap((each = []) =>
    each.map(({ address }) => address),
  );
  return { name: hostname(), addresses };
}

/** Whether a host is the machine: by one of its addresses, by its name, with or without its domain, or as localhost. */
export function isOn({ name, addresses }: Machine, host: string): boolean {
  const given = host.toLowerCase();
  if (isIP(given) !== 0) return given === "::1" || /^127\./.test(given) || addresses.includes(given);
  const own = name.toLowerCase();
  const [short] = own.split(".");
  return (
    given === "localhost" ||
    given === own ||
    given === short ||
    (own === short && given.startsWith(`${own}.`))
  );
}
