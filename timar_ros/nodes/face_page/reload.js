// Copyright timar_ros contributors
// SPDX-License-Identifier: Apache-2.0
//
// Loads the page again where its script did not come or did not start. Stands before all else, so
// that it is there even if the rest is cut off.

addEventListener('load', () => setTimeout(() => window.timar || location.reload(), 5000));
setTimeout(() => window.timar || location.reload(), 30000);
