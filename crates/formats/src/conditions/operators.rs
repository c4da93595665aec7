//! The names of operators.

/// The operators of a check, separated by commas.
pub const OPERATORS: &str = "$eq, $ne, $lt, $lte, $gt, $gte, $in, $nin, $ini, $nini, $inGroup, $notInGroup, $exists, $type, \
    $regex, $regexi, $not, $size, $elemMatch, $all, $alli, $veq, $vne, $vlt, $vlte, $vgt, $vgte";
