"""Fit the polynomial behind the kernels' exp, sigmoid and tanh.

expm1(r) = r + r^2 q(r) on |r| <= ln(2)/2. Prints the coefficients of q, lowest first,
for float32 and float64, with the largest error of r + r^2 q(r) relative to expm1(r).
Used to fill cpp/src/kernels/math.hpp; needs mpmath. Run:
python tests/reference/fit_expm1.py
"""

import mpmath as mp

mp.mp.dps = 50


def q(r):
    """Give (expm1(r) - r) / r^2, by its series, which is exact enough at r = 0."""
    return mp.nsum(lambda k: r**k / mp.factorial(k + 2), [0, 40])


def main():
    """Print coefficients and error for both precisions."""
    bound = mp.log(2) / 2 * mp.mpf("1.0001")
    for name, degree in (("float", 4), ("double", 10)):
        coefficients = mp.chebyfit(q, [-bound, bound], degree + 1)[::-1]
        worst = mp.mpf(0)
        for step in range(-500, 501):
            r = bound * step / 500
            if step == 0:
                continue
            value = r + r * r * mp.polyval(coefficients[::-1], r)
            worst = max(worst, abs(value / mp.expm1(r) - 1))
        print(name, "largest relative error", mp.nstr(worst, 3))
        for c in coefficients:
            print("   ", mp.nstr(c, 20))


if __name__ == "__main__":
    main()
