"""Array aliases used in annotations."""

import numpy as np
import numpy.typing as npt

Float = npt.NDArray[np.float64]
Int32 = npt.NDArray[np.int32]
Int64 = npt.NDArray[np.int64]
