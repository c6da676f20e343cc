"""Writes arrays/odd.npz: the same numbers in every order that NumPy saves, and a README between them.

    pip install numpy==2.4.6 && python test/golden/make_arrays.py

Element i of `a` in C order is i * 37 % 251, whatever the type; `text` is "é", "bc", "".
"""

import io
import pathlib
import zipfile

import numpy as np

values = (np.arange(2 * 3 * 4) * 37 % 251).reshape(2, 3, 4)
arrays = {
    "plain": values.astype("<i4"),
    "fortran": np.asfortranarray(values.astype("u1")),
    "big": values.astype(">i8"),
    "both": np.asfortranarray(values.astype(">f8")),
    "short": values.astype(">u2"),
    "text": np.array(["é", "bc", ""], dtype=">U2"),
}
folder = pathlib.Path(__file__).parent / "arrays"
folder.mkdir(exist_ok=True)
with zipfile.ZipFile(folder / "odd.npz", "w", zipfile.ZIP_DEFLATED) as archive:
    archive.writestr(zipfile.ZipInfo("README.md"), "What is in here.\n")
    for name, array in arrays.items():
        file = io.BytesIO()
        np.save(file, array)
        archive.writestr(zipfile.ZipInfo(f"{name}.npy"), file.getvalue())
