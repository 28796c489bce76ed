import numpy as np

from tomopipe.recon.denoise import least_variation_near


def _variation(image):
    return np.hypot(np.diff(image, axis=0)[:, :-1], np.diff(image, axis=1)[:-1]).sum()


def test_a_step_loses_height():
    image = np.zeros((12, 20), dtype=np.float32)
    image[:, 10:] = 1
    found, dual = least_variation_near(image, 2.0)
    for _ in range(100):
        found, dual = least_variation_near(image, 2.0, dual)
    # each half of 10 columns moves by weight / 10 towards the other
    np.testing.assert_allclose(found[:, :10], 0.2, atol=1e-3)
    np.testing.assert_allclose(found[:, 10:], 0.8, atol=1e-3)


def test_down_and_across_are_alike():
    image = np.random.default_rng(0).normal(size=(17, 12)).astype(np.float32)
    found, _ = least_variation_near(image, 0.3)
    np.testing.assert_allclose(least_variation_near(image.T, 0.3)[0].T, found, atol=1e-6)


def test_no_image_nearby_is_better():
    """Half the squared distance plus the weighted variation is convex: the minimum is the least."""
    rng = np.random.default_rng(1)
    image, weight = rng.normal(size=(9, 14)).astype(np.float32), 0.2
    found, _ = least_variation_near(image, weight, n_steps=3000)

    def cost(other):
        edges = np.abs(np.diff(other[-1])).sum() + np.abs(np.diff(other[:, -1])).sum()
        return 0.5 * np.sum((other - image) ** 2) + weight * (_variation(other) + edges)

    least = cost(found)
    for _ in range(50):
        assert cost(found + rng.normal(size=image.shape) * 0.02) > least
    assert least < 0.8 * cost(image)


def test_images_together_are_images_one_by_one():
    images = np.random.default_rng(2).normal(size=(3, 10, 13)).astype(np.float32)
    weights = np.array([0.1, 0.0, 0.7], np.float32)
    found, dual = least_variation_near(images, weights, n_steps=7)
    assert found.shape == images.shape
    assert dual.shape == (3, 2, 10, 13)
    for image, weight, together in zip(images, weights, found, strict=True):
        alone, _ = least_variation_near(image, weight, n_steps=7)
        np.testing.assert_array_equal(together, alone)
    np.testing.assert_array_equal(found[1], images[1])
