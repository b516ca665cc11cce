// SPDX-License-Identifier: MIT
// The plot library is somebody else's: its insides are not checked.
declare const uPlot: any;
export default uPlot;
