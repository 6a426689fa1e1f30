# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""
Nothing is used that NumPy 1.21 and SciPy 1.8 lack: Ubuntu 22.04 (ROS 2 Humble) has these.

Responsible for names. Not for parameters and methods that came later: `make check-oldest` runs the
fast tests with old releases.
"""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
# What NumPy 2.4 and SciPy 1.17 have and those two lack, by module.
YOUNGER = {
    'numpy': (
        'acos acosh asin asinh astype atan atan2 atanh bitwise_count bitwise_invert '
        'bitwise_left_shift bitwise_right_shift bool concat cumulative_prod '
        'cumulative_sum dtypes exceptions from_dlpack isdtype long matrix_transpose '
        'matvec permute_dims pow show_runtime strings trapezoid ulong unique_all '
        'unique_counts unique_inverse unique_values unstack vecdot vecmat'
    ),
    'numpy.linalg': (
        'cross diagonal matmul matrix_norm matrix_transpose outer svdvals tensordot trace '
        'vecdot vector_norm'
    ),
    'numpy.lib': 'array_utils introspect',
    'numpy.ma': 'ndenumerate ones_like zeros_like',
    'scipy': 'datasets differentiate',
    'scipy.fft': 'prev_fast_len',
    'scipy.integrate': 'cubature cumulative_simpson lebedev_rule nsum qmc_quad tanhsinh',
    'scipy.interpolate': (
        'AAA FloaterHormannInterpolator NdBSpline generate_knots make_smoothing_spline '
        'make_splprep make_splrep'
    ),
    'scipy.ndimage': 'value_indices vectorized_filter',
    'scipy.optimize': 'direct isotonic_regression milp',
    'scipy.signal': 'ShortTimeFFT closest_STFT_dual_window envelope firwin_2d freqz_sos',
    'scipy.signal.windows': 'kaiser_bessel_derived lanczos',
    'scipy.sparse': (
        'block_array diags_array expand_dims eye_array get_index_dtype permute_dims '
        'random_array safely_cast_index_arrays sparray swapaxes'
    ),
    'scipy.sparse.linalg': (
        'LaplacianNd funm_multiply_krylov is_sptriangular matrix_power spbandwidth'
    ),
    'scipy.spatial.transform': 'RigidTransform',
    'scipy.special': (
        'assoc_legendre_p assoc_legendre_p_all betaincc betainccinv legendre_p '
        'legendre_p_all log_wright_bessel powm1 softplus sph_harm_y sph_harm_y_all '
        'sph_legendre_p sph_legendre_p_all stirling2'
    ),
    'scipy.stats': (
        'Binomial BootstrapMethod CensoredData ConstantInputWarning Covariance '
        'DegenerateDataWarning FitError Logistic Mixture MonteCarloMethod '
        'NearConstantInputWarning Normal PermutationMethod Uniform abs betanbinom '
        'bws_test chatterjeexi directional_stats dirichlet_multinomial dpareto_lognorm '
        'dunnett ecdf exp expectile false_discovery_control fit gibrat goodness_of_fit '
        'irwinhall jf_skew_t landau lmoment log logrank make_distribution matrix_t '
        'monte_carlo_test normal_inverse_gamma order_statistic pmean poisson_binom '
        'poisson_means_test power quantile quantile_test random_table rel_breitwigner '
        'sobol_indices spearmanrho truncate truncpareto truncweibull_min '
        'uniform_direction vonmises_fisher wasserstein_distance_nd'
    ),
}
FILES = sorted(
    path
    for folder in ('timar_ros', 'config', 'launch', 'test')
    for path in (ROOT / folder).rglob('*.py')
)


def _dotted(node):
    """Return `a.b.c` of an attribute of attributes of a name, else None."""
    if isinstance(node, ast.Attribute):
        start = _dotted(node.value)
        return start and f'{start}.{node.attr}'
    return node.id if isinstance(node, ast.Name) else None


def _names(text):
    """Return what a source names of NumPy and SciPy, in full, with the line."""
    tree = ast.parse(text)
    modules = {}  # local name -> full name
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                top = alias.name.split('.')[0]
                modules[alias.asname or top] = alias.name if alias.asname else top
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            for alias in node.names:
                modules[alias.asname or alias.name] = f'{node.module}.{alias.name}'
                yield f'{node.module}.{alias.name}', node.lineno
    for node in ast.walk(tree):
        start, _, rest = (_dotted(node) or '').partition('.')
        if rest and start in modules:
            yield f'{modules[start]}.{rest}', node.lineno


def _younger(text):
    for name, line in _names(text):
        module, _, last = name.rpartition('.')
        if last in YOUNGER.get(module, '').split():
            yield f'{line}: {name}'


@pytest.mark.parametrize('path', FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_file_uses_what_only_newer_numpy_and_scipy_have(path):
    assert list(_younger(path.read_text())) == []


@pytest.mark.parametrize(
    ('text', 'found'),
    [
        ('import numpy as np\nnp.trapezoid(x)', ['2: numpy.trapezoid']),
        ('import numpy\nnumpy.linalg.vector_norm(x)', ['2: numpy.linalg.vector_norm']),
        ('import scipy.signal\nscipy.signal.ShortTimeFFT', ['2: scipy.signal.ShortTimeFFT']),
        ('from scipy import stats as s\ns.ecdf(x)', ['2: scipy.stats.ecdf']),
        ('from scipy.sparse import eye_array', ['1: scipy.sparse.eye_array']),
        ('import numpy as np\nnp.linalg.norm(x)\nfloat.trapezoid', []),
    ],
)
def test_younger_names_are_found_however_they_are_imported(text, found):
    assert list(_younger(text)) == found
