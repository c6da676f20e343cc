/** The drop page's `classifier.js` where a server classifies: each picture is sent to it. */

export const askingClassifier = `const token = new URLSearchParams(location.hash.slice(1)).get("token");
const authorised = token === null ? {} : { Authorization: "Bearer " + token };

const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

/** The server's answer; busy, it is asked again when it says. */
async function ask(path, options = {}) {
  for (let attempt = 0; ; attempt++) {
    let response;
    try {
      response = await fetch(path, { ...options, headers: authorised, cache: "no-store" });
    } catch {
      throw new Error("the server does not answer; is it still running?");
    }
    if (response.status === 503 && attempt < 5) {
      await pause(1000 * Number(response.headers.get("Retry-After") ?? 1));
      continue;
    }
    const answer = await response.json();
    if (response.ok) return answer;
    const { what, expected, hint } = answer.error;
    throw new Error([what, expected && "expected " + expected, hint].filter(Boolean).join("; "));
  }
}

export async function openClassifier() {
  const { classes } = await ask("/model");
  const classify = async (picture) => (await ask("/predict", { method: "POST", body: picture })).top;
  return { classes, classify };
}
`;
