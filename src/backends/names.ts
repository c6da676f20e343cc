/** What the engines are called; registry.ts has them. */

export const backendNames = ["native", "wasm", "reference"] as const;
export type BackendName = (typeof backendNames)[number];
