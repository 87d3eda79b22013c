//! That training learns, also in the numbers of an encoding.
