// The edge worker to compare with: decides five flags with Optimizely's SDK and tells the origin by a header. Events are off.
import {
  createInstance, createStaticProjectConfigManager, OptimizelyDecideOption,
} from "@optimizely/optimizely-sdk/universal";
import datafile from "./datafile.mjs";

const requestHandler = { makeRequest: () => ({ abort() {}, responsePromise: Promise.reject(new Error("no requests")) }) };
const client = createInstance({
  projectConfigManager: createStaticProjectConfigManager({ datafile }), requestHandler, disposable: true,
});
const options = [OptimizelyDecideOption.DISABLE_DECISION_EVENT, OptimizelyDecideOption.EXCLUDE_VARIABLES];

export default {
  async fetch(request, env) {
    const cookie = request.headers.get("cookie") ?? "";
    const unit = /(?:^|;\s*)uid=([^;]+)/.exec(cookie)?.[1];
    const forwarded = new Request(request);
    if (unit) {
      const user = client.createUserContext(unit);
      const decisions = user.decideAll(options);
      const text = Object.keys(decisions).sort().map((key) => `${key}=${decisions[key].variationKey}`).join(", ");
      forwarded.headers.set("x-ab-assignments", text);
    }
    const response = await env.origin.fetch(forwarded);
    const answer = new Response(response.body, response);
    if (!answer.headers.has("cache-control")) answer.headers.set("cache-control", "private");
    return answer;
  },
};
