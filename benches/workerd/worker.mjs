// The edge worker to compare with: decides five flags with Optimizely's SDK and passes them to the origin in a header. If it is
// bound to a queue, it sends the SDK's impressions there after the response: all of a request in one call, repeated ones
// included, since neither the SDK nor a worker remembers them.
import {
  createForwardingEventProcessor, createInstance, createStaticProjectConfigManager, OptimizelyDecideOption,
} from "@optimizely/optimizely-sdk/universal";
import datafile from "./datafile.mjs";

const requestHandler = { makeRequest: () => ({ abort() {}, responsePromise: Promise.reject(new Error("no requests")) }) };
// Filled while a request decides, and emptied by it right after.
const batches = [];
const eventDispatcher = {
  dispatchEvent(event) {
    batches.push(event.params);
    return Promise.resolve({ statusCode: 204 });
  },
};
const client = createInstance({
  projectConfigManager: createStaticProjectConfigManager({ datafile }), requestHandler, disposable: true,
  eventProcessor: createForwardingEventProcessor(eventDispatcher),
});
const { DISABLE_DECISION_EVENT, EXCLUDE_VARIABLES } = OptimizelyDecideOption;

function send(queue) {
  const [batch, ...others] = batches.splice(0);
  batch.visitors.push(...others.flatMap(({ visitors }) => visitors));
  return queue.fetch("http://queue/events", { method: "POST", body: JSON.stringify(batch) });
}

export default {
  async fetch(request, env, context) {
    const cookie = request.headers.get("cookie") ?? "";
    const unit = /(?:^|;\s*)uid=([^;]+)/.exec(cookie)?.[1];
    const forwarded = new Request(request);
    if (unit) {
      const user = client.createUserContext(unit);
      const decisions = user.decideAll(env.queue ? [EXCLUDE_VARIABLES] : [DISABLE_DECISION_EVENT, EXCLUDE_VARIABLES]);
      const text = Object.keys(decisions).sort().map((key) => `${key}=${decisions[key].variationKey}`).join(", ");
      forwarded.headers.set("x-ab-assignments", text);
      if (env.queue) context.waitUntil(send(env.queue));
    }
    const response = await env.origin.fetch(forwarded);
    const answer = new Response(response.body, response);
    if (!answer.headers.has("cache-control")) answer.headers.set("cache-control", "private");
    return answer;
  },
};
