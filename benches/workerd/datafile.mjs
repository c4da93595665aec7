// A datafile of Optimizely's with five flags, each with one experiment that includes all visitors.
const numbers = [0, 1, 2, 3, 4];
export default JSON.stringify({
  version: "4", projectId: "1", accountId: "1", revision: "1", anonymizeIP: true, botFiltering: false,
  sendFlagDecisions: true, audiences: [], typedAudiences: [], attributes: [], events: [], groups: [], variables: [],
  integrations: [], rollouts: [],
  featureFlags: numbers.map((n) => ({ id: `10${n}`, key: `experiment-${n}`, rolloutId: "", experimentIds: [`20${n}`], variables: [] })),
  experiments: numbers.map((n) => ({
    id: `20${n}`, key: `experiment-${n}`, status: "Running", layerId: `30${n}`, audienceIds: [], forcedVariations: {},
    variations: [
      { id: `40${n}`, key: "control", featureEnabled: true, variables: [] },
      { id: `50${n}`, key: "treatment", featureEnabled: true, variables: [] },
    ],
    trafficAllocation: [{ entityId: `40${n}`, endOfRange: 5000 }, { entityId: `50${n}`, endOfRange: 10000 }],
  })),
});
