/** `npm run soak` runs the long forms of tests that have a short one. */
export const isSoak = process.env.KELPIE_SOAK === "1";
